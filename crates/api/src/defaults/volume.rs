//! Volume sources: a volume without one is an emptyDir; projected files are 0644 unless told otherwise.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, EmptyDirVolumeSource, Volume};

use super::{pointer, text};

const FILE_MODE: i32 = 0o644;

pub(super) fn volume(volume: &mut Volume) {
    if *volume == (Volume { name: volume.name.clone(), ..Volume::default() }) {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(secret) = &mut volume.secret {
        pointer(&mut secret.default_mode, FILE_MODE);
    }
    if let Some(config_map) = &mut volume.config_map {
        pointer(&mut config_map.default_mode, FILE_MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        pointer(&mut downward.default_mode, FILE_MODE);
        downward.items.iter_mut().flatten().for_each(downward_file);
    }
    if let Some(host_path) = &mut volume.host_path {
        pointer(&mut host_path.type_, String::new());
    }
    if let Some(projected) = &mut volume.projected {
        pointer(&mut projected.default_mode, FILE_MODE);
        for source in projected.sources.iter_mut().flatten() {
            if let Some(token) = &mut source.service_account_token {
                pointer(&mut token.expiration_seconds, 3600);
            }
            if let Some(downward) = &mut source.downward_api {
                downward.items.iter_mut().flatten().for_each(downward_file);
            }
        }
    }
}

fn downward_file(file: &mut DownwardAPIVolumeFile) {
    if let Some(reference) = &mut file.field_ref {
        text(&mut reference.api_version, "v1");
    }
}
