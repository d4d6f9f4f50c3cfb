//! TLS by rustls, with what each sslmode verifies.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::error::{Error, Result};
use crate::settings::{Environment, Settings, SslMode};

/// How certain a server's identity has to be.
enum Verification {
    Nothing,
    Chain(Arc<WebPkiServerVerifier>),
    ChainAndName(Arc<WebPkiServerVerifier>),
}

/// What connections of these settings use.
pub fn client_config(settings: &Settings, environment: &Environment) -> Result<ClientConfig> {
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier = Verifier {
        verification: verification(settings, environment, &provider)?,
        provider: provider.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::local(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match own_certificate(settings, environment)? {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            Error::local(format!("could not use the client certificate: {error}"))
        }),
    }
}

fn verification(
    settings: &Settings,
    environment: &Environment,
    provider: &Arc<CryptoProvider>,
) -> Result<Verification> {
    let default = environment.home_file(".postgresql/root.crt");
    let roots = match settings.root_certificates.as_deref() {
        Some("system") => system_roots()?,
        Some(file) => file_roots(Path::new(file))?,
        None => match default.filter(|file| file.exists()) {
            Some(file) => file_roots(&file)?,
            None if settings.ssl_mode >= SslMode::VerifyCa => return Err(no_roots()),
            None => return Ok(Verification::Nothing),
        },
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .map_err(|error| Error::local(format!("could not use the root certificates: {error}")))?;
    Ok(match settings.ssl_mode {
        SslMode::VerifyFull => Verification::ChainAndName(verifier),
        // As libpq: with root certificates at hand, "require" verifies the chain.
        SslMode::VerifyCa | SslMode::Require => Verification::Chain(verifier),
        SslMode::Disable | SslMode::Allow | SslMode::Prefer => Verification::Nothing,
    })
}

fn no_roots() -> Error {
    Error::usage("there are no root certificates to verify the server's with: ~/.postgresql/root.crt does not exist")
        .with_hint("Give sslrootcert=FILE, sslrootcert=system for those of this system, or an sslmode that verifies nothing.")
}

fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    match roots.is_empty() {
        true => Err(Error::local("this system has no root certificates")
            .with_hint("Install them (Debian: ca-certificates), or give sslrootcert=FILE.")),
        false => Ok(roots),
    }
}

fn file_roots(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, "root certificate file")? {
        roots
            .add(certificate)
            .map_err(|error| unreadable(file, "root certificate file", &error))?;
    }
    Ok(roots)
}

fn certificates(file: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| unreadable(file, what, &error))?
        .collect();
    let all = all.map_err(|error| unreadable(file, what, &error))?;
    match all.is_empty() {
        true => Err(unreadable(file, what, &"there is no certificate in it")),
        false => Ok(all),
    }
}

fn unreadable(file: &Path, what: &str, why: &dyn std::fmt::Display) -> Error {
    Error::usage(format!("could not read {what} \"{}\": {why}", file.display()))
        .with_hint("It must be a PEM file that you may read.")
}

type OwnCertificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificate that the client shows: sslcert and sslkey, or ~/.postgresql/postgresql.crt and .key if they exist.
fn own_certificate(
    settings: &Settings,
    environment: &Environment,
) -> Result<Option<OwnCertificate>> {
    let default = |given: &Option<PathBuf>, name: &str| {
        given.clone().or_else(|| environment.home_file(name).filter(|file| file.exists()))
    };
    let Some(certificate) = default(&settings.certificate, ".postgresql/postgresql.crt") else {
        return Ok(None);
    };
    let Some(key) = default(&settings.key, ".postgresql/postgresql.key") else {
        return Err(Error::usage(format!(
            "certificate present, but not its private key: {}",
            certificate.display()
        ))
        .with_hint("Give sslkey=FILE."));
    };
    let chain = certificates(&certificate, "certificate file")?;
    let key = PrivateKeyDer::from_pem_file(&key)
        .map_err(|error| unreadable(&key, "private key file", &error))?;
    Ok(Some((chain, key)))
}

struct Verifier {
    verification: Verification,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (verifier, wants_name) = match &self.verification {
            Verification::Nothing => return Ok(ServerCertVerified::assertion()),
            Verification::Chain(verifier) => (verifier, false),
            Verification::ChainAndName(verifier) => (verifier, true),
        };
        let result =
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match result {
            // The name is looked at last, so the chain is good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !wants_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
