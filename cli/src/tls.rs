//! `https` and `wss`: with a certificate of one's own, or with one by a local authority that is made on first use.
//!
//! The local authority is made once and kept, so that it has to be trusted once. It can vouch for names of this machine and
//! of private networks only (its name constraints say so): whoever gets hold of its key can pose as nothing else.

use std::{
    fs, io,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::{ArgAction, Args, builder::BoolishValueParser};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};
use rustls_pki_types::PrivateKeyDer;
use sideband::env::{
    Clock, Env, Listener,
    real::{ServerIdentity, SystemClock, TlsListener},
};
use url::{Host, Url};

use crate::{failure::Failure, world};

/// Names that the local authority may vouch for, with everything below them.
const NAMES: [&str; 5] = ["localhost", "test", "internal", "local", "home.arpa"];
/// Addresses that it may vouch for: loopback, private and link-local ones.
const NETWORKS: [(&str, u8); 7] = [
    ("127.0.0.0", 8),
    ("10.0.0.0", 8),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("169.254.0.0", 16),
    ("::1", 128),
    ("fc00::", 7),
];
/// How long a server's certificate is good; it is made anew at each start. Some systems refuse more than 398 days.
const SERVER_DAYS: i64 = 397;
/// How long the local authority is good.
const AUTHORITY_DAYS: i64 = 3_650;

/// Flags of every server.
#[derive(Debug, Args)]
pub(crate) struct Tls {
    /// Serve https and wss, with a certificate by a local authority that is made on first use
    #[arg(long, env = "SIDEBAND_SIM_TLS", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    tls: bool,
    /// Where the local authority is kept, as ca.pem and ca-key.pem [default: sideband-sim in the user's data folder]
    #[arg(long, env = "SIDEBAND_SIM_TLS_DIR", value_name = "DIR", requires = "tls")]
    tls_dir: Option<PathBuf>,
    /// Serve https and wss with this certificate, followed by those that lead to its authority, as PEM
    #[arg(long, env = "SIDEBAND_SIM_TLS_CERT", value_name = "FILE", requires = "tls_key", conflicts_with = "tls")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key as PEM
    #[arg(long, env = "SIDEBAND_SIM_TLS_KEY", value_name = "FILE", requires = "tls_cert", conflicts_with = "tls")]
    tls_key: Option<PathBuf>,
}

/// What a server speaks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Security {
    identity: Option<ServerIdentity>,
    /// The certificates that clients have to trust, as a PEM file.
    pub(crate) authority: Option<PathBuf>,
    /// Whether the certificate is one that we made, for the addresses that we serve.
    pub(crate) ours: bool,
}

impl Security {
    /// Whether it is TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.identity.is_some()
    }

    /// The real world, in which this server's certificate is trusted.
    pub(crate) fn world(&self) -> Result<Env, Failure> {
        world::trusting(self.authority.as_deref())
    }

    /// Speaks TLS on a listener, if that is wanted.
    pub(crate) fn guard(&self, listener: Box<dyn Listener>) -> Box<dyn Listener> {
        match &self.identity {
            Some(identity) => Box::new(TlsListener::new(listener, identity)),
            None => listener,
        }
    }
}

impl Tls {
    /// Reads or makes what is needed to serve at this address under this URL.
    pub(crate) fn prepare(&self, addr: SocketAddr, advertised: Option<&Url>) -> Result<Security, Failure> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let identity = ServerIdentity::from_files(certificate, key).map_err(|error| {
                Failure::misuse(anyhow!("{error}")).hint("--tls-cert and --tls-key take PEM files that belong together")
            })?;
            return Ok(Security { identity: Some(identity), authority: Some(certificate.clone()), ours: false });
        }
        if !self.tls {
            return Ok(Security::default());
        }
        let dir = match &self.tls_dir {
            Some(dir) => dir.clone(),
            None => data_folder()?,
        };
        let names = names(addr, advertised)?;
        let authority = Authority::load_or_make(&dir).map_err(|error| cannot_keep(&dir, &error))?;
        let identity = authority.vouch(names).map_err(Failure::cannot_run)?;
        Ok(Security { identity: Some(identity), authority: Some(authority.certificate), ours: true })
    }
}

fn cannot_keep(dir: &Path, error: &anyhow::Error) -> Failure {
    Failure::cannot_run(anyhow!("cannot keep the local authority in {}: {error:#}", dir.display()))
        .hint("name another folder with --tls-dir DIR")
}

/// The user's folder for what programs keep.
fn data_folder() -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("XDG_DATA_HOME").or_else(|| variable("LOCALAPPDATA"));
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
    let none = || Failure::cannot_run(anyhow!("no folder is known where the local authority can be kept"));
    base.map(|base| base.join("sideband-sim")).ok_or_else(|| none().hint("name one with --tls-dir DIR"))
}

/// The names and addresses by which the server is reached.
fn names(addr: SocketAddr, advertised: Option<&Url>) -> Result<Vec<String>, Failure> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut add = |name: String| {
        if !names.contains(&name) {
            names.push(name);
        }
    };
    let ip = addr.ip().to_canonical();
    if !ip.is_unspecified() && may_vouch_for_ip(ip) {
        add(ip.to_string());
    }
    if let Some(host) = advertised.and_then(Url::host) {
        let (name, allowed) = match host {
            Host::Domain(name) => (name.to_owned(), may_vouch_for_name(name)),
            Host::Ipv4(ip) => (ip.to_string(), may_vouch_for_ip(ip.into())),
            Host::Ipv6(ip) => (ip.to_string(), may_vouch_for_ip(ip.into())),
        };
        if !allowed {
            return Err(Failure::misuse(anyhow!(
                "--advertise-url names {name}, for which the local authority may not vouch"
            ))
            .hint(format!("use a name below .{} or a private address,", NAMES.join(", .")))
            .hint("or give a certificate of your own with --tls-cert and --tls-key"));
        }
        add(name);
    }
    Ok(names)
}

fn may_vouch_for_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|known| name.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

fn may_vouch_for_ip(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

/// A certificate authority of this user.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The file of its certificate.
    certificate: PathBuf,
}

impl Authority {
    fn load_or_make(dir: &Path) -> anyhow::Result<Self> {
        make_private_folder(dir)?;
        let (certificate, key_file) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
        if !key_file.try_exists()? {
            let key = KeyPair::generate()?;
            // Whoever was first wins; everybody reads the same key below.
            keep(dir, &key_file, key.serialize_pem().as_bytes())?;
        }
        check_private(&key_file)?;
        let text = fs::read_to_string(&key_file).map_err(|error| anyhow!("{}: {error}", key_file.display()))?;
        let key = KeyPair::from_pem(&text)
            .map_err(|_| anyhow!("{} holds no private key; remove it to get a new authority", key_file.display()))?;
        let params = authority_params()?;
        if !certificate.try_exists()? {
            keep(dir, &certificate, params.self_signed(&key)?.pem().as_bytes())?;
        }
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// A new key with a certificate for these names.
    fn vouch(&self, names: Vec<String>) -> anyhow::Result<ServerIdentity> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "Sideband simulator");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, SERVER_DAYS)?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow!("{error}"))?;
        ServerIdentity::new(vec![certificate.der().clone()], key).map_err(|error| anyhow!("{error}"))
    }
}

fn authority_params() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Sideband simulator local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let names = NAMES.iter().map(|&name| Ok(GeneralSubtree::DnsName(name.to_owned())));
    let networks = NETWORKS.iter().map(|&(network, bits)| {
        let network = network.parse().map_err(|_| anyhow!("{network} is no address"))?;
        Ok(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(network, bits)))
    });
    let permitted_subtrees = names.chain(networks).collect::<anyhow::Result<_>>()?;
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    set_life(&mut params, AUTHORITY_DAYS)?;
    Ok(params)
}

/// From yesterday, for clocks that differ, until so many days from today.
fn set_life(params: &mut CertificateParams, days: i64) -> anyhow::Result<()> {
    let now = i64::try_from(SystemClock.unix_millis() / 1000)?;
    let day = |days: i64| {
        let date = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_second(now + days * 86_400)?).date();
        anyhow::Ok(date_time_ymd(date.year().into(), date.month().try_into()?, date.day().try_into()?))
    };
    (params.not_before, params.not_after) = (day(-1)?, day(days)?);
    Ok(())
}

/// Writes a file that only the user can read, whole or not at all; one that is there already stays.
fn keep(dir: &Path, path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(anyhow!("{}: {}", path.display(), error.error)),
    }
}

#[cfg(unix)]
fn make_private_folder(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
fn make_private_folder(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

#[cfg(unix)]
fn check_private(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(anyhow!("others may read {} (mode {mode:04o}); run `chmod 600` on it", path.display()));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_: &Path) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_vouches_for_this_machine_and_private_networks_only() {
        for name in ["localhost", "a.localhost", "sim.test", "host.docker.internal", "LOCALHOST"] {
            assert!(may_vouch_for_name(name), "{name}");
        }
        for name in ["example.com", "notlocalhost", "localhost.example.com", "contest", "sim"] {
            assert!(!may_vouch_for_name(name), "{name}");
        }
        for (ip, may) in [("127.0.0.1", true), ("10.1.2.3", true), ("172.32.0.1", false), ("8.8.8.8", false)] {
            assert_eq!(may_vouch_for_ip(ip.parse().unwrap()), may, "{ip}");
        }
    }
}
