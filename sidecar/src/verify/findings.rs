//! What a proof amounts to, in words.

use postern_attest::{AppIdentity, PeerPolicy, QuoteClaims};

use super::arguments::Verify;
use super::judge::Proof;
use super::not_accepted::NotAccepted;
use super::report::{App, Platform, Registers, Report, Statement, SubjectKind};

/// How far two clocks that are in order may be apart, with an answer on its way between them; in seconds.
const CLOCKS_APART: u64 = 60;

/// Ends a report with a proof. It is still refused when it proves something else than expected.
pub(super) fn accept(report: &mut Report, proof: &Proof, arguments: &Verify) {
    let expected = arguments.expected();
    let intel = report.root.as_ref().is_some_and(|root| root.intel);
    let verdict = compare(&expected, proof.app.as_ref());
    report.proven = proven(report.subject.kind, proof, intel);
    report.not_proven = not_proven(report.subject.kind, proof, intel);
    database(report, proof);
    if proof.issued {
        let text =
            "The KMS given with --kms-root issued the certificate to that app, which measured it as its key provider.";
        report.proven.push(Statement::new("issued_by_kms", text));
    }
    expectations(report, proof, &expected);
    if arguments.at.is_some() {
        let text = "That it holds now: it was judged as of the time given with --at.";
        report.not_proven.push(Statement::new("time", text));
    }
    report.app = proof.app.as_ref().map(app);
    report.platform = Some(platform(&proof.claims));
    report.registers = Some(registers(&proof.claims));
    report.report_data = Some(hex::encode(proof.claims.report_data));
    report.certificate.clone_from(&proof.certificate);
    report.database.clone_from(&proof.database);
    report.valid_until = Some(proof.valid_until);
    report.end(verdict);
}

/// Whether a proven app is one of those expected. One that is not known is not.
pub(super) fn compare(expected: &PeerPolicy, app: Option<&AppIdentity>) -> Result<(), NotAccepted> {
    let Some(app) = app else {
        if expected.apps.is_none() && expected.compose_hashes.is_none() {
            return Ok(());
        }
        let text = "a quote alone names no app to compare with the one expected; give its log with --event-log";
        return Err(NotAccepted::unknown("app_unknown", text));
    };
    Ok(expected.check_app(app)?)
}

fn proven(kind: SubjectKind, proof: &Proof, intel: bool) -> Vec<Statement> {
    let claims = &proof.claims;
    let signer =
        if intel { "real TDX hardware, under Intel's root" } else { "a platform under another root than Intel's" };
    let advisories = match claims.advisory_ids.as_slice() {
        [] => "no advisory".to_owned(),
        ids => ids.join(", "),
    };
    let mut proven = vec![
        Statement::new("quote_signed", format!("The quote is signed by {signer}; nothing on its chain is revoked.")),
        Statement::new("tcb", format!("The platform's TCB status is {}, with {advisories}.", claims.tcb_status)),
        Statement::new(
            "td_protected",
            "The TD can neither be debugged nor migrated, and no service TD is bound to it.",
        ),
    ];
    if proof.certificate.is_some() {
        let text =
            "The quote vouches for the certificate's key (report data = SHA-512 of it): it was made inside the TD.";
        proven.push(Statement::new("key_bound", text));
    }
    if kind == SubjectKind::Server {
        let text = "The server holds that key: it has signed this handshake with it.";
        proven.push(Statement::new("key_possession", text));
    }
    if proof.app.is_some() {
        let text = "The event log replays to RTMR3: app id, compose hash and instance id are those that were measured.";
        proven.push(Statement::new("event_log", text));
    }
    if let Some(release) = &proof.image {
        let text = format!("MRTD and RTMR0 to RTMR2 are those of {release:?}, a release of the signed policy.");
        proven.push(Statement::new("image", text));
    }
    proven
}

fn not_proven(kind: SubjectKind, proof: &Proof, intel: bool) -> Vec<Statement> {
    let always = true;
    let server = kind == SubjectKind::Server;
    let fresh = proof.database.as_ref().is_some_and(|database| database.nonce.is_some());
    let all = [
        (
            !intel,
            "hardware",
            "That there is TDX hardware: the root is not Intel's, and whoever holds it can sign anything.",
        ),
        (
            proof.image.is_none(),
            "image",
            "Which OS image runs: MRTD and RTMR0 to RTMR2 were not compared with those of a known one. What the event log \
             says is worth as much as the image that wrote it.",
        ),
        (always, "chain", "That the app may run: the chain was not asked."),
        (
            !fresh,
            "freshness",
            "When the quote was made, which no quote says, and that nothing was revoked since the collateral was issued.",
        ),
        (fresh, "revocation", "That nothing was revoked since the collateral was issued."),
        (
            proof.certificate.is_none() && proof.database.is_none(),
            "key_binding",
            "Whose quote it is: no key was compared with its report data, and anybody can copy a quote.",
        ),
        (
            kind == SubjectKind::Certificate,
            "key_possession",
            "That whoever shows the certificate holds its key: it was read from a file.",
        ),
        (
            proof.database.is_some(),
            "channel",
            "That other ports of the same host are served from this TD: anybody may hand on what it says in plain HTTP. The \
             certificate of its RA-TLS port must have the TLS public key that is reported here, where one is.",
        ),
        (
            proof.app.is_none(),
            "event_log",
            "Which app runs: there was no event log, such as --event-log gives, and RTMR3 alone names none.",
        ),
        (
            proof.app.as_ref().is_some_and(|app| app.os_image_hash.is_none()),
            "os_image",
            "The hash of the OS image: the guest did not measure it.",
        ),
        (
            server,
            "name",
            "That the server goes by its host name: a name only chooses the way, evidence is what counts.",
        ),
        (server, "client", "That the server would serve a client: no client certificate was shown to it."),
    ];
    all.into_iter().filter(|(holds, ..)| *holds).map(|(_, code, text)| Statement::new(code, text)).collect()
}

/// What the quote says about the database.
fn database(report: &mut Report, proof: &Proof) {
    let Some(database) = &proof.database else { return };
    let text = "The database's state is what the TD's software read from it: the quote vouches for it and its time.";
    report.proven.push(Statement::new("state_bound", text));
    if database.nonce.is_some() {
        let text = "The quote was made for this question: it vouches for the nonce.";
        report.proven.push(Statement::new("fresh", text));
    }
    if database.tls_public_key.is_some() {
        let text = "The TD's software holds the TLS public key that is reported here.";
        report.proven.push(Statement::new("tls_key_bound", text));
    }
    let apart = report.judged_at.abs_diff(database.timestamp);
    if apart > CLOCKS_APART {
        let text =
            format!("That the state is of now: by its own clock, it was read {apart} s away from the judgement.");
        report.not_proven.push(Statement::new("time_of_state", text));
    }
}

/// What was expected, and whether it is so.
fn expectations(report: &mut Report, proof: &Proof, expected: &PeerPolicy) {
    let Some(app) = &proof.app else { return };
    let app_met = expected.apps.as_ref().map(|apps| apps.contains(&app.app_id));
    let compose_met = expected.compose_hashes.as_ref().map(|hashes| hashes.contains(&app.compose_hash));
    for (code, what, option, met) in [
        ("app_expected", "app id", "--app-id", app_met),
        ("compose_hash_expected", "compose hash", "--compose-hash", compose_met),
    ] {
        match met {
            Some(true) => report.proven.push(Statement::new(code, format!("The {what} is one of those expected."))),
            Some(false) => {
                report.not_proven.push(Statement::new(code, format!("The {what} is not one of those expected.")));
            }
            None => {
                let text =
                    format!("That it is the right {what}: none was given with {option}, so that any is accepted.");
                report.not_proven.push(Statement::new(code, text));
            }
        }
    }
}

fn app(app: &AppIdentity) -> App {
    let provider = &app.key_provider;
    App {
        app_id: app.app_id.to_string(),
        compose_hash: app.compose_hash.to_string(),
        instance_id: app.instance_id.to_string(),
        os_image_hash: app.os_image_hash.map(|hash| hash.to_string()),
        key_provider: (!provider.is_empty()).then(|| String::from_utf8_lossy(provider).into_owned()),
    }
}

fn platform(claims: &QuoteClaims) -> Platform {
    Platform {
        device_id: claims.device_id.to_string(),
        fmspc: claims.fmspc.to_string(),
        tcb_status: claims.tcb_status.clone(),
        advisory_ids: claims.advisory_ids.clone(),
        tcb_evaluation_number: claims.tcb_evaluation_number,
    }
}

fn registers(claims: &QuoteClaims) -> Registers {
    let [rtmr0, rtmr1, rtmr2, rtmr3] = claims.rtmr.map(|register| register.to_string());
    Registers {
        mrtd: claims.mrtd.to_string(),
        rtmr0,
        rtmr1,
        rtmr2,
        rtmr3,
        mr_config_id: claims.mr_config_id.to_string(),
        mr_owner: claims.mr_owner.to_string(),
        mr_owner_config: claims.mr_owner_config.to_string(),
    }
}
