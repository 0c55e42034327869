//! How connections are spread over the workers. The kernel gives each one to the listener of some worker, by a hash of
//! its addresses: of eight connections to two workers one gets five or more most of the time, and sometimes all.

/// The worker that a new connection is handed on to, by the open connections of each; `None`: `own`, which accepted it,
/// keeps it. It keeps up to a sixteenth more than the worker with the fewest has, as handing on costs two system calls.
pub fn handed_to(own: usize, open: impl Iterator<Item = usize> + Clone) -> Option<usize> {
    let has = open.clone().nth(own)?;
    let (fewest, least) = open.enumerate().min_by_key(|&(_, count)| count)?;
    (has > least + has / 16).then_some(fewest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_to_the_worker_with_the_fewest_unless_its_own_has_about_as_many() {
        for (own, open, wanted) in [
            (0, &[0, 0][..], None),
            (0, &[1, 0], Some(1)),
            (1, &[1, 0], None),
            (0, &[1, 1], None),
            (0, &[3, 2, 1, 2], Some(2)),
            (2, &[3, 2, 1, 2], None),
            (0, &[16, 15], None),
            (0, &[17, 15], Some(1)),
            (0, &[1000, 938], None),
            (0, &[1000, 937], Some(1)),
            (0, &[7], None),
            (2, &[5, 0], None),
        ] {
            assert_eq!(
                handed_to(own, open.iter().copied()),
                wanted,
                "{own} of {open:?}"
            );
        }
    }

    #[test]
    fn connections_that_all_arrive_at_one_worker_end_up_evenly_spread() {
        let mut open = [0_usize; 4];
        for _ in 0..64 {
            let to = handed_to(0, open.iter().copied()).unwrap_or(0);
            if let Some(count) = open.get_mut(to) {
                *count += 1;
            }
        }
        // A sixteenth more than the fewest is kept.
        assert!(
            open.iter().all(|count| (15..=17).contains(count)),
            "{open:?}"
        );
        assert_eq!(open.iter().sum::<usize>(), 64);
    }
}
