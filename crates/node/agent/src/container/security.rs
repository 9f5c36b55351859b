//! securityContext to who runs the process and what it may.

use k8s_openapi::api::core::v1::{Container, PodSpec, SeccompProfile};

use crate::seams::{Image, Seccomp, Security};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    #[error("container has runAsNonRoot and image will run as root")]
    ImageRunsAsRoot,
    #[error("container's runAsUser breaks non-root policy")]
    UserIsRoot,
    #[error("container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is non-root")]
    NamedUser(String),
}

pub(super) fn security(
    spec: &PodSpec,
    container: &Container,
    image: &Image,
    seccomp: Option<Seccomp>,
) -> Result<Security, SecurityError> {
    let pod = spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let user = own.and_then(|own| own.run_as_user).or_else(|| pod.and_then(|pod| pod.run_as_user));
    let group = own.and_then(|own| own.run_as_group).or_else(|| pod.and_then(|pod| pod.run_as_group));
    let non_root = own.and_then(|own| own.run_as_non_root).or_else(|| pod.and_then(|pod| pod.run_as_non_root));
    if non_root == Some(true) {
        verify_non_root(user, &image.user)?;
    }
    let groups = pod.and_then(|pod| pod.supplemental_groups.clone()).unwrap_or_default();
    let fs_group = pod.and_then(|pod| pod.fs_group);
    let capabilities = own.and_then(|own| own.capabilities.as_ref());
    let privileged = own.and_then(|own| own.privileged) == Some(true);
    Ok(Security {
        image_user: image.user.clone(),
        user: user.and_then(|user| u32::try_from(user).ok()),
        group: group.and_then(|group| u32::try_from(group).ok()),
        supplemental_groups: groups.into_iter().chain(fs_group).filter_map(|gid| u32::try_from(gid).ok()).collect(),
        only_these_groups: pod.and_then(|pod| pod.supplemental_groups_policy.as_deref()) == Some("Strict"),
        privileged,
        capabilities_add: capabilities.and_then(|c| c.add.clone()).unwrap_or_default(),
        capabilities_drop: capabilities.and_then(|c| c.drop.clone()).unwrap_or_default(),
        no_new_privileges: own.and_then(|own| own.allow_privilege_escalation) == Some(false) && !privileged,
        read_only_rootfs: own.and_then(|own| own.read_only_root_filesystem) == Some(true),
        seccomp,
        unmasked_proc: own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked"),
    })
}

/// The seccomp profile that is asked for, the container's own before the pod's.
pub fn seccomp_profile<'a>(spec: &'a PodSpec, container: &'a Container) -> Option<&'a SeccompProfile> {
    let own = container.security_context.as_ref().and_then(|own| own.seccomp_profile.as_ref());
    own.or_else(|| spec.security_context.as_ref().and_then(|pod| pod.seccomp_profile.as_ref()))
}

fn verify_non_root(user: Option<i64>, image_user: &str) -> Result<(), SecurityError> {
    match user {
        Some(0) => return Err(SecurityError::UserIsRoot),
        Some(_) => return Ok(()),
        None => {}
    }
    let name = image_user.split(':').next().unwrap_or_default();
    match name.parse::<u32>() {
        Ok(0) => Err(SecurityError::ImageRunsAsRoot),
        Ok(_) => Ok(()),
        Err(_) if name.is_empty() => Err(SecurityError::ImageRunsAsRoot),
        Err(_) => Err(SecurityError::NamedUser(name.to_owned())),
    }
}
