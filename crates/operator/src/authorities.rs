//! Whom a server of HTTPS has to be certified by, where nobody has said it: the public authorities, which are compiled in because an image
//! may have no files, and those of the machine or the image.

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// Reads the machine's anew each time, for they may change; `SSL_CERT_FILE` and `SSL_CERT_DIR` say where they are.
pub(crate) async fn public() -> RootCertStore {
    // Files are read.
    let read = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let found = match read {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "certificates of the machine not read");
            return with(Vec::new());
        }
    };
    for error in &found.errors {
        tracing::warn!(%error, "certificate of the machine not read");
    }
    with(found.certs)
}

fn with(own: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let (_, unusable) = roots.add_parsable_certificates(own);
    if unusable > 0 {
        tracing::debug!(unusable, "certificates of the machine left out");
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use wattle_api_server::{ApiServer, Settings};

    #[test]
    fn public_authorities_are_known_without_any_file() {
        let roots = with(Vec::new()).roots;
        let knows = |name: &str| {
            let is_it = |subject: &[u8]| subject.windows(name.len()).any(|part| part == name.as_bytes());
            roots.iter().any(|root| is_it(root.subject.as_ref()))
        };
        assert!(knows("ISRG Root X1") && knows("DigiCert Global Root G2"));
        assert!(!knows("wattle"));
    }

    #[tokio::test]
    async fn authorities_of_the_machine_are_trusted_besides_and_what_is_none_is_left_out() {
        let server = ApiServer::start(Settings { tls: true, ..Settings::default() }).await.unwrap();
        let own = CertificateDer::from_pem_slice(server.authority().unwrap().as_bytes()).unwrap();
        let roots = with(vec![CertificateDer::from(vec![0x30, 0]), own]).roots;
        assert_eq!(roots.len(), webpki_roots::TLS_SERVER_ROOTS.len() + 1);
    }
}
