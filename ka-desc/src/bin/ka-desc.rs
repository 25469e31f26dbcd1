//! See [`ka_desc`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ka_desc::cli::main(std::env::args_os()).into()
}
