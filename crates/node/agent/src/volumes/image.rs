//! An image as a volume: what its layers hold, for reading.

use std::path::Path;

use super::{Made, VolumeError, is_mounted};
use crate::seams::Image;

/// After a restart of the agent it is there already, and stays what it was.
pub fn mount(image: &Image, path: &Path) -> Result<Made, VolumeError> {
    std::fs::create_dir_all(path).map_err(VolumeError::io("create", path))?;
    if !is_mounted(path)? {
        base_sys::mounts::mount_layers(path, &image.layers).map_err(VolumeError::io("mount the image at", path))?;
    }
    Ok(Made { read_only: true, ..Made::at(path) })
}
