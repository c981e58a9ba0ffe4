//! The one place that knows which library seals.

use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{AeadInOut, Nonce, Tag},
};

use crate::wire::{NONCE_LEN, TAG_LEN};

/// ChaCha20-Poly1305 under one key, without associated data. The key is wiped on drop (CRY-09, CRY-12).
pub(super) struct Cipher(ChaCha20Poly1305);

// The library wipes the key only with its feature `zeroize`.
const _: () = {
    const fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
    is_wiped::<ChaCha20Poly1305>();
};

impl Cipher {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(key.into()))
    }

    /// Encrypts in place; `None` only for sizes far beyond a frame.
    pub(super) fn seal(&self, nonce: [u8; NONCE_LEN], text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let nonce = Nonce::<ChaCha20Poly1305>::from(nonce);
        let tag = self.0.encrypt_inout_detached(&nonce, &[], text.into()).ok()?;
        Some(tag.into())
    }

    /// Decrypts in place; false, with `text` unspecified, if the tag does not fit.
    pub(super) fn open(&self, nonce: [u8; NONCE_LEN], text: &mut [u8], tag: [u8; TAG_LEN]) -> bool {
        let nonce = Nonce::<ChaCha20Poly1305>::from(nonce);
        self.0.decrypt_inout_detached(&nonce, &[], text.into(), &Tag::<ChaCha20Poly1305>::from(tag)).is_ok()
    }
}
