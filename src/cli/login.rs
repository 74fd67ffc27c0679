//! `ddock login` and `ddock logout`: they check and keep the user's credentials, and forget them.

use crate::cli::failure::Refusal;
use crate::cli::{output, prompt};
use crate::human;
use crate::reference::DOCKER_HUB;
use crate::registry::{self, Keeper, Keyring, Secret};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Longest password, in bytes. Tokens that serve as one have a few kilobytes.
const MAX_PASSWORD: u64 = 32 << 10;

#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// User name
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Password; others can see it in the list of processes
    #[arg(short, long, value_name = "PASSWORD")]
    password: Option<Secret>,
    /// Take the password from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Keep the log-in in this file instead of Docker's
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// The registry, Docker Hub if none is named
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArguments {
    /// Forget the log-in that this file keeps instead of Docker's
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// The registry, Docker Hub if none is named
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// Logs in: asks the registry before anything is kept.
pub(crate) fn login(arguments: &LoginArguments) -> Result<()> {
    let registry = registry(arguments.server.as_deref())?;
    let context = || format!("cannot log in to `{registry}`");
    // Before anybody types: no place to keep it would be a waste of that.
    let keyring = Keyring::of_user(arguments.authfile.as_deref()).with_context(context)?;
    let (user, password) = who(arguments)?;
    registry::verify(&registry, &user, &password).with_context(context)?;
    match keyring
        .store(&registry, &user, &password)
        .with_context(context)?
    {
        Keeper::Helper(_) => {}
        Keeper::File(path) => output::tell(&format!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\n\
             Configure a credential helper (`credsStore` in that file) to remove this warning.\n",
            human::printable(&path.display().to_string())
        )),
    }
    if Keyring::is_overruled() {
        output::tell("WARNING! DOCKER_AUTH_CONFIG is set: what it holds comes first.\n");
    }
    output::print("Login Succeeded\n")
}

/// Logs out. To be logged out already is no failure.
pub(crate) fn logout(arguments: &LogoutArguments) -> Result<()> {
    let registry = registry(arguments.server.as_deref())?;
    let context = || format!("cannot log out of `{registry}`");
    let keyring = Keyring::of_user(arguments.authfile.as_deref()).with_context(context)?;
    if keyring.remove(&registry).with_context(context)? {
        output::print(&format!("Removing login credentials for {registry}\n"))
    } else {
        output::print(&format!("Not logged in to {registry}\n"))
    }
}

fn registry(server: Option<&str>) -> Result<String> {
    server.map_or_else(|| Ok(DOCKER_HUB.to_owned()), registry::registry_of)
}

/// Returns the user's name and password, as given or typed. The complaints are Docker's.
fn who(arguments: &LoginArguments) -> Result<(String, Secret)> {
    let refuse = |text: &str| Err(Refusal::new(text).code(1).into());
    let is_terminal = || io::stdin().is_terminal();
    let (user, password) = match (arguments.username.clone(), arguments.password.clone()) {
        (_, Some(_)) if arguments.password_stdin => {
            return refuse("--password and --password-stdin are mutually exclusive");
        }
        (None, None) if arguments.password_stdin => {
            return refuse("Must provide --username with --password-stdin");
        }
        (Some(user), None) if arguments.password_stdin => (user, read_password()?),
        (user, password) => {
            if password.is_some() {
                output::tell(
                    "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n",
                );
            }
            if (user.is_none() || password.is_none()) && !is_terminal() {
                let refusal =
                    Refusal::new("Cannot perform an interactive login from a non TTY device");
                let hint = "give `--username USER --password-stdin`, and the password on stdin";
                return Err(refusal.hint(hint).code(1).into());
            }
            let user = user.map_or_else(|| prompt::ask("Username: "), Ok)?;
            let password = password.map_or_else(|| prompt::ask_secret("Password: "), Ok)?;
            (user, password)
        }
    };
    if user.is_empty() {
        return refuse("the user name is empty");
    }
    if password.is_empty() {
        return refuse("the password is empty");
    }
    Ok((user, password))
}

/// Reads all of stdin, without the end of its last line.
fn read_password() -> Result<Secret> {
    let mut text = Zeroizing::new(String::new());
    io::stdin()
        .take(MAX_PASSWORD + 1)
        .read_to_string(&mut text)
        .context("reading the password from stdin")?;
    ensure!(
        text.len() as u64 <= MAX_PASSWORD,
        "the password on stdin has more than 32 KiB"
    );
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok(line.to_owned().into())
}
