//! `child-origin ADDRESS NAME`: an origin for scenarios that freeze and kill a process. Prints where it listens;
//! answers 200 with `x-endpoint: NAME`.

use std::{env, io::Write, net::TcpListener, process::ExitCode, thread};

use outrigger_tests::{Origin, Response};

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let (Some(address), Some(name)) = (args.next(), args.next()) else {
        eprintln!("usage: child-origin ADDRESS NAME");
        return ExitCode::from(2);
    };
    let listener = TcpListener::bind(address).expect("the address is free");
    let origin = Origin::on(listener, move |wire, _, _| {
        while let Ok(Some(request)) = wire.request() {
            let answer = Response::text("ok").header("x-endpoint", &name);
            if wire.try_send(answer.wire(&request.method)).is_err() {
                break;
            }
        }
    });
    println!("{}", origin.address());
    std::io::stdout().flush().ok();
    loop {
        thread::park();
    }
}
