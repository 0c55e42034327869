//! The time of a look-up, as the first reader of a request's place waits for it.
//!
//! ```text
//! cargo run --release -p edgerouter-geo --example look_ups -- FILE.mmdb ADDRESS [ADDRESS …]
//! ```
//!
//! Prints the median of the rounds in ns, and their spread; a loop without look-ups is subtracted.

use std::{hint::black_box, net::IpAddr, process::ExitCode, sync::Arc, time::Instant};

use edgerouter_core::geo::{GeoPolicy, PlaceSource as _};
use edgerouter_geo::GeoFiles;

const ROUNDS: usize = 15;
const LOOK_UPS: u32 = 100_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let files = arguments.next().map(Into::into).into_iter().collect();
    let addresses: Vec<IpAddr> = arguments.filter_map(|it| it.parse().ok()).collect();
    let policy = Arc::new(GeoPolicy {
        files,
        interval: std::time::Duration::from_secs(3_600),
        ..GeoPolicy::default()
    });
    let (Ok(files), false) = (GeoFiles::open(&policy), addresses.is_empty()) else {
        eprintln!("look_ups: name a file in MaxMind's format, and addresses");
        return ExitCode::FAILURE;
    };
    let timed = |work: &dyn Fn(IpAddr)| {
        let began = Instant::now();
        for address in addresses.iter().cycle().take(LOOK_UPS as usize) {
            work(black_box(*address));
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(LOOK_UPS)
    };
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let nothing = timed(&|address| {
                black_box(address);
            });
            let found = timed(&|address| {
                black_box(files.find(address));
            });
            found - nothing
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let at = |place: usize| rounds.get(place).copied().unwrap_or_default();
    println!(
        "{:.0} ns ({:.0} to {:.0})",
        at(ROUNDS / 2),
        at(0),
        at(ROUNDS - 1)
    );
    ExitCode::SUCCESS
}
