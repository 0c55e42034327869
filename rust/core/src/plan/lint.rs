//! Lints: settings of a plan that are valid and probably a mistake.
//!
//! Nothing here refuses a plan. Each rule reports an unusual setting, its danger and the remedy. `docs/cli.md` lists
//! the rules.

mod advice;
mod experiments;
mod guarded;
mod reached;
mod secrets;
mod stored;
#[cfg(test)]
mod tests;

pub use self::advice::{Lint, LintLevel};
use self::{
    advice::Advice,
    experiments::experiments,
    guarded::{addresses, browsers, delay, methods},
    reached::{idle, leads_to_itself, misread, page_of_group, redirect, unchanged},
    secrets::{
        beside_certificates, closed, https, null_origin, open_within, preflight, secret,
        uncompressed, unverified,
    },
    stored::{cookies, deception, shared_identity, unkeyed},
};
use super::{FileFolder, Plan, Target};

/// All advice about a plan, in declaration order of its routes.
pub fn lint(plan: &Plan) -> Vec<Lint> {
    let unreachable = plan.router.unreachable(&plan.routes);
    let closed = closed(plan);
    let mut found = Vec::new();
    // The folder of the route before, and where the advice about that route begins.
    let mut before: Option<(&FileFolder, usize)> = None;
    for route in &plan.routes {
        let start = found.len();
        let mut advice = Advice {
            route,
            found: &mut found,
        };
        if let Some((_, by)) = unreachable.iter().find(|(id, _)| *id == route.id)
            && let Some(by) = plan.route(*by)
        {
            advice.warn(
                "unreachable",
                format!("can never match: {} matches all its requests", by.label),
                "remove it, or give it a higher priority",
            );
        }
        if route.stores() {
            unkeyed(&mut advice);
            cookies(&mut advice);
            deception(&mut advice);
            shared_identity(&mut advice);
        }
        if let Target::Group(group) = route.target {
            let members = plan.group(group).map(|group| group.members.as_slice());
            unverified(plan, members.unwrap_or_default(), &mut advice);
            page_of_group(plan, group, &mut advice);
        }
        redirect(&mut advice);
        leads_to_itself(plan, &mut advice);
        unchanged(&mut advice);
        https(plan, &mut advice);
        secret(&mut advice);
        open_within(&closed, &mut advice);
        preflight(&mut advice);
        null_origin(&mut advice);
        misread(&mut advice);
        experiments(plan, &mut advice);
        uncompressed(&mut advice);
        browsers(plan, &mut advice);
        addresses(plan, &mut advice);
        delay(plan, &mut advice);
        methods(&mut advice);
        let folder = match &route.target {
            Target::Files(folder) => Some(&**folder),
            _ => None,
        };
        if let (Some(folder), Some((other, first))) = (folder, before)
            && (&folder.root, &folder.prefix) == (&other.root, &other.prefix)
        {
            drop_repeated(&mut found, first);
        }
        before = folder.map(|folder| (folder, start));
    }
    found.extend(idle(plan));
    found.extend(guarded::site(plan));
    found.extend(beside_certificates(plan));
    found
}

/// Drops, from a place on, advice that was given before. A declaration of a folder makes two routes, one below its
/// prefix and one for the prefix itself, and the same advice about both is of no use.
fn drop_repeated(found: &mut Vec<Lint>, from: usize) {
    let mut at = from;
    while let Some(lint) = found.get(at) {
        let earlier = found.get(from..at).unwrap_or_default();
        if earlier.iter().any(|known| known.says(lint)) {
            found.remove(at);
        } else {
            at += 1;
        }
    }
}
