//! Registries: the distribution protocol over HTTP; the only place that speaks it.
