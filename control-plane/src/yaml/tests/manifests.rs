//! Manifests as people write them, injected and back.
