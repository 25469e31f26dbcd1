//! See [`ka_server`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ka_server::main(std::env::args_os()).into()
}
