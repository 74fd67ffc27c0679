//! A pull for programs: one JSON object a line, with the fields of Docker's API: `id`, `status`, `current`, `total`.

use crate::cli::progress::word;
use crate::pull::{LayerId, LayerState};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

/// Between two lines about bytes, those of all layers together.
const INTERVAL: Duration = Duration::from_millis(100);

/// What has been said of each layer, and when.
#[derive(Default)]
pub(crate) struct Json {
    shown: HashMap<LayerId, (Discriminant<LayerState>, u64)>,
    last: Option<Instant>,
}

impl Json {
    /// Returns the line that says that the layer `id` is in `state`: every change of state, and some of the bytes.
    pub(crate) fn next(&mut self, id: &LayerId, state: LayerState, now: Instant) -> Option<String> {
        let kind = discriminant(&state);
        let known = self.shown.get(id).copied();
        let changed = known.is_none_or(|(shown, _)| shown != kind);
        let size = match state {
            LayerState::Waiting { size } | LayerState::Downloading { size, .. } => size,
            _ => known.map_or(0, |(_, size)| size),
        };
        let recent = self
            .last
            .is_some_and(|last| now.duration_since(last) < INTERVAL);
        if !changed && (recent || !matches!(state, LayerState::Downloading { .. })) {
            return None;
        }
        self.shown.insert(id.clone(), (kind, size));
        let current = match state {
            LayerState::Downloading { received, .. } => {
                self.last = Some(now);
                Some(received)
            }
            LayerState::DownloadComplete | LayerState::PullComplete => Some(size),
            _ => None,
        };
        let mut object = json!({"id": id.short(), "status": word(state)});
        if let Some(current) = current {
            object["current"] = current.into();
        }
        if size > 0 {
            object["total"] = size.into();
        }
        Some(line(&object))
    }
}

/// Returns `object` as a line.
pub(crate) fn line(object: &Value) -> String {
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn every_change_and_ten_times_a_second_the_bytes() {
        let id = Digest::of(b"");
        let start = Instant::now();
        let mut json = Json::default();
        let size = 100;
        let mut text = String::new();
        text.extend(json.next(&id, LayerState::Waiting { size }, start));
        for received in 0..=20 {
            let now = start + Duration::from_millis(received * 10);
            text.extend(json.next(&id, LayerState::Downloading { received, size }, now));
        }
        text.extend(json.next(&id, LayerState::DownloadComplete, start));
        text.extend(json.next(&id, LayerState::PullComplete, start));
        insta::assert_snapshot!(text, @r#"
        {"id":"e3b0c44298fc","status":"Pulling fs layer","total":100}
        {"id":"e3b0c44298fc","status":"Downloading","current":0,"total":100}
        {"id":"e3b0c44298fc","status":"Downloading","current":10,"total":100}
        {"id":"e3b0c44298fc","status":"Downloading","current":20,"total":100}
        {"id":"e3b0c44298fc","status":"Download complete","current":100,"total":100}
        {"id":"e3b0c44298fc","status":"Pull complete","current":100,"total":100}
        "#);
    }
}
