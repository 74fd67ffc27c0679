//! Tags: what a repository has, page by page (distribution-spec, "Listing Tags").

use crate::human::printable;
use crate::registry::transport::Request;
use crate::registry::{Answer, Client, RegistryError};
use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;
use std::collections::HashSet;

/// Most tags of one repository that are listed: more are not pulled one after the other.
const MAX_TAGS: usize = 10_000;

#[derive(Deserialize)]
struct Page {
    /// Some registries say null for none.
    tags: Option<Vec<String>>,
}

impl Client<'_> {
    /// Returns all tags of the repository in the registry's order, as it writes them. Fails if there
    /// are more than 10,000, or if the pages never end.
    pub(crate) async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let own = format!("{}/tags/list", self.repository);
        let what = format!("tags of `{}`", printable(&self.repository));
        let mut path = format!("{own}?n=1000");
        let (mut tags, mut seen) = (Vec::new(), HashSet::new());
        loop {
            let request = Request {
                method: Method::GET,
                path,
                accept: None,
                part: None,
            };
            let answer = self.fetch(&request, &what).await?;
            let before = tags.len();
            for tag in page(&answer.body).with_context(|| format!("the list of {what}"))? {
                if seen.insert(tag.clone()) {
                    tags.push(tag);
                }
            }
            let next = next(&answer, &own).with_context(|| format!("the list of {what}"))?;
            let Some(next) = next else {
                return Ok(tags);
            };
            check(before, tags.len()).with_context(|| format!("the list of {what}"))?;
            path = next;
        }
    }
}

fn page(body: &[u8]) -> Result<Vec<String>> {
    let page: Page = serde_json::from_slice(body)
        .map_err(|error| anyhow::anyhow!("it is malformed: {}", printable(&error.to_string())))?;
    Ok(page.tags.unwrap_or_default())
}

/// Refuses to turn the page if this one had nothing new, or there are enough.
fn check(before: usize, after: usize) -> Result<()> {
    ensure!(
        after > before,
        "it goes round in circles: a page brought nothing new and named a next one"
    );
    ensure!(after <= MAX_TAGS, "it has more than {MAX_TAGS} tags");
    Ok(())
}

/// Returns the path below `/v2/` of the page after `answer`, if there is one: only ever this same
/// list, `own`, on the registry that answered.
fn next(answer: &Answer, own: &str) -> Result<Option<String>> {
    let Some(target) = next_link(&answer.headers) else {
        return Ok(None);
    };
    let url = answer.url.join(&target).context("its next page")?;
    // A registry behind a proxy may not know that it is reached by https: the scheme is ours anyway.
    let is_own = url.host_str() == answer.url.host_str()
        && url.port() == answer.url.port()
        && url.path() == format!("/v2/{own}");
    if !is_own {
        bail!("its next page is elsewhere: `{}`", printable(&target));
    }
    let query = url.query().unwrap_or_default();
    Ok(Some(format!("{own}?{query}")))
}

/// Returns the target of the link whose relation is `next` (RFC 8288).
fn next_link(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(LINK).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .find_map(|link| {
            let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
            let is_next = |parameter: &str| {
                parameter.split_once('=').is_some_and(|(name, value)| {
                    name.trim().eq_ignore_ascii_case("rel")
                        && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
                })
            };
            parameters
                .split(';')
                .any(is_next)
                .then(|| target.to_owned())
        })
}

#[cfg(test)]
mod tests {
    use crate::reference::Reference;
    use crate::registry::testing::{Answer, Server, client, wait};
    use serde_json::json;

    fn tags(server: &Server) -> Result<Vec<String>, String> {
        let reference: Reference = format!("{}/lib/x", server.address()).parse().unwrap();
        let tags = wait(client(&reference).tags());
        tags.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    fn page(tags: &[&str], link: &str) -> Answer {
        Answer::json(&json!({"name": "lib/x", "tags": tags})).header("Link", link)
    }

    #[test]
    fn pages_are_followed_whether_their_links_are_relative_or_absolute() {
        let server = Server::start(|asked, _| match asked.path.as_str() {
            "/v2/lib/x/tags/list?n=1000" => page(
                &["a", "b"],
                "</v2/lib/x/tags/list?last=b&n=2>; rel=\"next\"",
            ),
            "/v2/lib/x/tags/list?last=b&n=2" => {
                let own = asked.header("host").unwrap();
                let link = format!("<http://{own}/v2/lib/x/tags/list?last=d>;title=x; rel=next");
                page(&["b", "c", "d"], &link)
            }
            "/v2/lib/x/tags/list?last=d" => page(&["e"], "</elsewhere>; rel=\"prev\""),
            other => panic!("{other}"),
        });
        assert_eq!(tags(&server).unwrap(), ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn no_tags_are_an_empty_list() {
        let server = Server::start(|_, _| Answer::json(&json!({"name": "x", "tags": null})));
        assert_eq!(tags(&server).unwrap(), [""; 0]);
    }

    #[test]
    fn lists_that_never_end_or_lead_elsewhere_are_refused() {
        let circle = Server::start(|_, _| page(&["a"], "</v2/lib/x/tags/list?n=1>; rel=\"next\""));
        assert!(tags(&circle).unwrap_err().contains("round in circles"));
        assert_eq!(circle.asked().len(), 2);

        let endless = Server::start(|_, number| {
            let tags: Vec<_> = (0..3000).map(|tag| format!("t{number}-{tag}")).collect();
            let link = format!("</v2/lib/x/tags/list?last={number}>; rel=\"next\"");
            Answer::json(&json!({"tags": tags})).header("Link", &link)
        });
        assert!(tags(&endless).unwrap_err().contains("more than 10000 tags"));

        for link in [
            "<http://other.example/v2/lib/x/tags/list?n=1>; rel=\"next\"",
            "</v2/lib/y/tags/list>; rel=\"next\"",
            "</v2/lib/x/tags/../../blobs/z>; rel=\"next\"",
        ] {
            let elsewhere = Server::start(move |_, _| page(&["a"], link));
            let error = tags(&elsewhere).unwrap_err();
            assert!(error.contains("elsewhere"), "{error}");
        }
    }
}
