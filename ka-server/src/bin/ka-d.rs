//! See [`ka_server::cli::ka_d`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ka_server::cli::ka_d::main(std::env::args_os()).into()
}
