//! See [`ka_client::cli::installer`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ka_client::cli::installer::main(std::env::args_os()).into()
}
