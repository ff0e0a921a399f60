//! Volumes of a pod as directories: what Secrets and ConfigMaps hold, claims, and empty ones.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, KeyToPath, PersistentVolumeClaim, Pod, Secret, Volume,
};
use kube::Api;

use super::unprepared::Unprepared;
use crate::claims;
use crate::controller::Context;

/// What a Secret or a ConfigMap holds.
pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

const MODE: i32 = 0o644;

/// Where the objects are that a pod's specification names.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) context: &'a Context,
    pub(crate) namespace: &'a str,
    /// Of all claims.
    pub(crate) root: &'a Path,
}

impl Sources<'_> {
    pub(crate) async fn config_map(&self, name: &str) -> Result<Option<Contents>, Unprepared> {
        let maps: Api<ConfigMap> = self.context.within(self.namespace);
        Ok(maps.get_opt(name).await?.map(|map| {
            let texts = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
            texts.chain(map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0))).collect()
        }))
    }

    pub(crate) async fn secret(&self, name: &str) -> Result<Option<Contents>, Unprepared> {
        let secrets: Api<Secret> = self.context.within(self.namespace);
        let found = secrets.get_opt(name).await?;
        Ok(found.map(|secret| secret.data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)).collect()))
    }

    async fn claim(&self, name: &str) -> Result<PathBuf, Unprepared> {
        let claims: Api<PersistentVolumeClaim> = self.context.within(self.namespace);
        let found = claims.get_opt(name).await?;
        let missing = || Unprepared::Missing { kind: "persistentvolumeclaim", name: name.to_owned() };
        if !claims::is_bound(&found.ok_or_else(missing)?) {
            return Err(Unprepared::Unbound(name.to_owned()));
        }
        Ok(claims::directory(self.root, self.namespace, name))
    }
}

/// The directories of all volumes, below `folder` but for claims.
pub(crate) async fn make(
    sources: Sources<'_>,
    pod: &Pod,
    folder: &Path,
) -> Result<BTreeMap<String, PathBuf>, Unprepared> {
    let mut made = BTreeMap::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let own = folder.join(&volume.name);
        let place = make_one(sources, volume, own).await?;
        create(&place)?;
        made.insert(volume.name.clone(), place);
    }
    Ok(made)
}

async fn make_one(sources: Sources<'_>, volume: &Volume, own: PathBuf) -> Result<PathBuf, Unprepared> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return sources.claim(&claim.claim_name).await;
    }
    if volume.empty_dir.is_some() {
        return Ok(own);
    }
    let (contents, items, mode) = if let Some(secret) = &volume.secret {
        let name = secret.secret_name.clone().unwrap_or_default();
        let contents = found("secret", name.clone(), sources.secret(&name).await?, secret.optional)?;
        (
            pick("secret", &name, contents, secret.items.as_deref(), secret.optional)?,
            &secret.items,
            secret.default_mode,
        )
    } else if let Some(map) = &volume.config_map {
        let contents =
            found("configmap", map.name.clone(), sources.config_map(&map.name).await?, map.optional)?;
        (
            pick("configmap", &map.name, contents, map.items.as_deref(), map.optional)?,
            &map.items,
            map.default_mode,
        )
    } else {
        return Err(Unprepared::Feature(format!("the kind of volume \"{}\"", volume.name)));
    };
    for (path, bytes) in &contents {
        let own_mode = items.iter().flatten().find(|item| item.path == *path).and_then(|item| item.mode);
        write(&own.join(path), bytes, own_mode.or(mode).unwrap_or(MODE))?;
    }
    Ok(own)
}

pub(crate) fn found(
    kind: &'static str,
    name: String,
    contents: Option<Contents>,
    optional: Option<bool>,
) -> Result<Contents, Unprepared> {
    match contents {
        Some(contents) => Ok(contents),
        None if optional == Some(true) => Ok(Contents::new()),
        None => Err(Unprepared::Missing { kind, name }),
    }
}

/// By path: all keys, or the items that are asked for.
fn pick(
    kind: &'static str,
    name: &str,
    mut contents: Contents,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
) -> Result<Contents, Unprepared> {
    let Some(items) = items else { return Ok(contents) };
    let mut picked = Contents::new();
    for item in items {
        match contents.remove(&item.key) {
            Some(bytes) => {
                picked.insert(item.path.clone(), bytes);
            }
            None if optional == Some(true) => {}
            None => return Err(Unprepared::NoKey { kind, name: name.to_owned(), key: item.key.clone() }),
        }
    }
    Ok(picked)
}

/// Where in the container each volume is mounted, and which directory stands for it.
pub(crate) fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
) -> Result<Vec<(String, PathBuf)>, Unprepared> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.get(&mount.name).ok_or_else(|| Unprepared::NoVolume(mount.name.clone()))?;
        let place = match mount.sub_path.as_deref().filter(|path| !path.is_empty()) {
            Some(path) => volume.join(path),
            None => volume.clone(),
        };
        if !place.exists() {
            create(&place)?;
        }
        mounts.push((mount.mount_path.clone(), place));
    }
    Ok(mounts)
}

pub(crate) fn create(folder: &Path) -> Result<(), Unprepared> {
    fs::create_dir_all(folder).map_err(|error| Unprepared::file(folder, error))
}

/// Files are replaced as a whole: who reads one sees the old or the new.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: i32) -> Result<(), Unprepared> {
    let failed = |error| Unprepared::file(path, error);
    if let Some(folder) = path.parent() {
        create(folder)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, bytes).map_err(failed)?;
    let mode = fs::Permissions::from_mode(u32::try_from(mode).unwrap_or(0o600));
    fs::set_permissions(&new, mode).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}
