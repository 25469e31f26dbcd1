//! See [`ka_client::cli::client`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ka_client::cli::client::main(std::env::args_os()).into()
}
