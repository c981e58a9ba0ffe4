//! Runs a scenario file under a seed, or many of them, and says how fast: `run FILE [FROM] [TO] [TIMES AS LONG]`.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program for people, on the wall's clock")]

use std::{error::Error, time::Instant};

use sideband_scenarios::{scenario::Scenario, sim};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("which file?")?;
    let from: u64 = args.next().map_or(Ok(0), |seed| seed.parse())?;
    let to: u64 = args.next().map_or(Ok(from), |seed| seed.parse())?;
    let times_as_long: u32 = args.next().map_or(Ok(1), |times| times.parse())?;
    let options = sim::RunOptions { times_as_long, ..sim::RunOptions::default() };
    let scenario = Scenario::parse(&file, &std::fs::read_to_string(&file)?)?;
    let (start, mut simulated) = (Instant::now(), 0.0);
    for seed in from..=to {
        let run = sim::run(&scenario, seed, &options)?;
        simulated += run.elapsed.as_secs_f64();
        if from == to {
            println!("{}", run.trace.story());
            println!("hash {}", run.trace.hash());
        }
        for failure in &run.failures {
            println!("seed {seed}: {} at {} ms: {}", failure.kind, failure.at, failure.what);
        }
    }
    let took = start.elapsed().as_secs_f64();
    println!("{simulated:.0} virtual seconds in {took:.2} s: {:.0} a second", simulated / took);
    Ok(())
}
