//! The store: layers, images and containers on disk.
