use std::collections::BTreeMap;

use postern_identity::Register;

use crate::{Appraisal, PolicyRefusal, QuoteClaims};

/// What measures an operating system image on one shape of virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Image {
    /// The initial memory, that is the firmware.
    pub mrtd: Register,
    /// RTMR0 to RTMR2: the virtual hardware, the kernel, and what the kernel was started with.
    pub rtmr: [Register; 3],
}

impl Image {
    /// The image that a verified peer runs.
    #[must_use]
    pub fn of(peer: &Appraisal) -> Self {
        Self::measured(peer.mrtd, peer.rtmr)
    }

    /// The image that a verified quote is of.
    #[must_use]
    pub fn of_quote(claims: &QuoteClaims) -> Self {
        Self::measured(claims.mrtd, claims.rtmr)
    }

    fn measured(mrtd: Register, [rtmr0, rtmr1, rtmr2, _]: [Register; 4]) -> Self {
        Self { mrtd, rtmr: [rtmr0, rtmr1, rtmr2] }
    }

    fn registers(&self) -> [Register; 4] {
        let [rtmr0, rtmr1, rtmr2] = self.rtmr;
        [self.mrtd, rtmr0, rtmr1, rtmr2]
    }
}

/// Images that are welcome, each under the name of its release.
///
/// An image is welcome as a whole only: the registers of one release never vouch for those of another, since a flaw that
/// one release fixed in its kernel may be reached through the firmware of the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cohorts(BTreeMap<Image, String>);

impl Cohorts {
    /// Adds an image. A release on several shapes of virtual machine has several images under one name.
    ///
    /// # Errors
    /// When the image is there already, with the name under which it is.
    pub fn insert(&mut self, name: &str, image: Image) -> Result<(), String> {
        match self.0.insert(image, name.to_owned()) {
            None => Ok(()),
            Some(known) => Err(known),
        }
    }

    /// The release that an image belongs to.
    #[must_use]
    pub fn name(&self, image: &Image) -> Option<&str> {
        self.0.get(image).map(String::as_str)
    }

    /// Every image and the release that it belongs to.
    pub fn iter(&self) -> impl Iterator<Item = (&Image, &str)> {
        self.0.iter().map(|(image, name)| (image, name.as_str()))
    }

    /// Whether no image is welcome.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an image is welcome.
    ///
    /// # Errors
    /// When it is not, with a word on whether its parts are known from several releases.
    pub fn check(&self, image: &Image) -> Result<(), PolicyRefusal> {
        if self.0.contains_key(image) {
            return Ok(());
        }
        let known = |index: usize, register: Register| {
            self.0.keys().any(|image| image.registers().get(index) == Some(&register))
        };
        let mixed = image.registers().into_iter().enumerate().all(|(index, register)| known(index, register));
        Err(if mixed { PolicyRefusal::MixedImage(image.mrtd) } else { PolicyRefusal::UnknownImage(image.mrtd) })
    }
}
