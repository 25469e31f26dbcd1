//! See [`ka_server::ka_d`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ka_server::ka_d::main(std::env::args_os()).into()
}
