//! A token service: it knows users, and signs what Debian's docker-registry verifies.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::harness::authority::{Authority, Pair};
use crate::harness::canned::{Canned, Reply, Request};

/// The one user: a name, a password, and a token in exchange for which there are tokens.
pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "token-pass:word";
pub(crate) const IDENTITY_TOKEN: &str = "identity-of-alice";

/// How long tokens live, in seconds.
pub(crate) const LIFE: u64 = 300;

/// Who issues the tokens, and for whom.
const ISSUER: &str = "ddock tests";
const SERVICE: &str = "a registry";

pub(crate) struct TokenService {
    canned: Canned,
    bundle: PathBuf,
}

impl TokenService {
    /// Starts one whose tokens `authority` vouches for. It lets everybody pull what begins with `public/`,
    /// and the user what begins with `private/`. Its tokens live [`LIFE`], of which `age` seconds are over when it gives them away.
    pub(crate) fn start(authority: &Authority, age: u64) -> TokenService {
        let pair = authority.issue(&["token.test"]);
        TokenService {
            bundle: authority.certificate.clone(),
            canned: Canned::serve(move |request| answer(request, &pair, age)),
        }
    }

    /// Returns the `auth` section of a registry that wants its tokens.
    pub(crate) fn section(&self) -> String {
        let (realm, bundle) = (self.canned.reference("token"), self.bundle.display());
        format!(
            "auth: {{token: {{realm: \"http://{realm}\", service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: {bundle}}}}}\n"
        )
    }

    /// Returns the requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.canned.requests()
    }
}

fn answer(request: &Request, pair: &Pair, age: u64) -> Reply {
    let form = String::from_utf8(request.body.clone()).unwrap();
    let query = request
        .target
        .split_once('?')
        .map_or("", |(_, query)| query);
    let asked = if form.is_empty() { query } else { &form };
    let field = |name: &str| {
        let fields = asked.split('&').filter_map(|field| field.split_once('='));
        let found = fields
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        found
            .map(|value| value.replace("%3A", ":").replace("%2F", "/"))
            .next()
    };
    let password = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let user = match (request.header("Authorization"), field("refresh_token")) {
        (None, None) => None,
        (Some(shown), None) if shown == password => Some(USER),
        (None, Some(shown)) if shown == IDENTITY_TOKEN => Some(USER),
        _ => return Reply::error(401, "UNAUTHORIZED", "incorrect username or password"),
    };
    let scope = field("scope").unwrap_or_default();
    let mut words = scope.split(':');
    let (kind, name) = (words.next().unwrap_or_default(), words.next());
    let name = name.unwrap_or_default();
    let may = name.starts_with("public/") || (user.is_some() && name.starts_with("private/"));
    let access = if kind == "repository" && may {
        json!([{"type": kind, "name": name, "actions": ["pull"]}])
    } else {
        json!([])
    };
    let now = Utc::now();
    let seconds = now.timestamp();
    // Whole seconds, as the Date header has them.
    let issued = (now - Duration::from_secs(age)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let claims = json!({
        "iss": ISSUER, "sub": user.unwrap_or_default(), "aud": SERVICE, "jti": "1", "access": access,
        "iat": seconds, "nbf": seconds - 10, "exp": seconds + 300,
    });
    let token = sign(&claims, pair);
    let body = json!({"token": token, "expires_in": LIFE, "issued_at": issued});
    Reply::new(200, body.to_string())
        .header("Content-Type", "application/json")
        .header("Date", &now.to_rfc2822())
}

/// Returns a JSON Web Token of these claims (RFC 7519), signed by ES256, with the certificate in it.
fn sign(claims: &Value, pair: &Pair) -> String {
    let pem = fs_err::read_to_string(&pair.certificate).unwrap();
    let certificate: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [certificate]});
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(claims));
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-sign"]).arg(&pair.key);
    let mut child = openssl
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(signed.as_bytes()).unwrap();
    drop(stdin);
    let der = child.wait_with_output().unwrap().stdout;
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(raw(&der)))
}

/// Returns the two numbers of a DER signature side by side, 32 bytes each (RFC 7518, 3.4).
fn raw(der: &[u8]) -> Vec<u8> {
    // SEQUENCE, its length, then twice: INTEGER, its length, its bytes with a leading zero or without some.
    let mut rest = &der[2..];
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let start = number.len().saturating_sub(32);
        numbers.extend(std::iter::repeat_n(
            0,
            32_usize.saturating_sub(number.len()),
        ));
        numbers.extend(&number[start..]);
        rest = after;
    }
    numbers
}
