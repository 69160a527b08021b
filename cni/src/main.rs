//! The CNI binary. Called by the name `loopback`, it is the loopback plugin.

use std::env;
use std::io::{self, Read};
use std::process::ExitCode;

use towpath_cni::{Call, Plugin, run};

fn main() -> ExitCode {
    let call = Call {
        plugin: Plugin::named(env::args_os().next().as_deref()),
        environment: &|name| env::var(name).ok(),
        read: &|| {
            let mut input = Vec::new();
            io::stdin().lock().read_to_end(&mut input).map(|_| input)
        },
    };
    run(&call, &mut io::stdout().lock(), &mut io::stderr().lock())
}
