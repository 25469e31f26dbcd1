//! See [`ka_server::cli::program`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ka_server::cli::program::main(std::env::args_os()).into()
}
