//! See [`ka_client::install`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ka_client::install::main(std::env::args_os()).into()
}
