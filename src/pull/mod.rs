//! Pulling: from a registry into the store.

mod event;

pub(crate) use event::{Event, LayerId, LayerState, Pulled};
