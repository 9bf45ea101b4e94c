//! Two tenants, and every way to mix up what belongs to them.

use std::io::Write;

use super::{DEADLINE, Scene, refusals};
use postern_world::report::Report;

/// Tries all eight combinations of name, secret and certificate of two tenants: the two that belong together are let in,
/// the six others are refused.
pub(super) async fn run(scene: &Scene, report: &mut Report<impl Write>) {
    let letter = |tenant| if tenant == 0 { "A" } else { "B" };
    for (name, secret, certificate) in
        [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]
    {
        let Some(login) = scene.straight(name, secret, certificate) else { return };
        let title = format!(
            "{}'s name with {}'s secret and {}'s certificate",
            letter(name),
            letter(secret),
            letter(certificate)
        );
        if name == secret && name == certificate {
            let check = async {
                let user = scene.psql.run(&login, "select current_user;\n").await?;
                Ok(format!("let in as {user}"))
            };
            report.check(&title, DEADLINE, check).await;
        } else {
            // A foreign certificate is refused before the secret is asked for.
            let expected: &[&str] = if name == certificate {
                &["password authentication failed"]
            } else {
                &["belongs to another application"]
            };
            report.check(&title, DEADLINE, refusals::refused(&scene.psql, &login, expected)).await;
        }
    }
}
