//! See [`ka_client`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ka_client::main(std::env::args_os()).into()
}
