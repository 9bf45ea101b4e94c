//! tokio-postgres, with rustls.

use std::sync::Arc;
use std::time::Instant;

use postern_clients::{Found, LONG, PATIENCE, ROWS, STATEMENT, answer, request};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let config: Config = request()?.connection.parse()?;
    let outcome = if config.get_ssl_mode() == SslMode::Disable {
        walk(&config, NoTls).await
    } else {
        walk(&config, MakeRustlsConnect::new(tls()?)).await
    };
    Ok(answer("tokio-postgres 0.7.18", outcome.map_err(|error| in_full(&*error)))?)
}

async fn walk<T>(config: &Config, tls: T) -> Result<Found, Failure>
where
    T: MakeTlsConnect<Socket> + Clone,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls.clone()).await?;
    let (found, connection) = tokio::join!(query(client, tls), connection);
    connection?;
    found
}

/// Takes the client, so that its connection ends with this.
async fn query<T: MakeTlsConnect<Socket>>(client: Client, tls: T) -> Result<Found, Failure> {
    let row =
        client.query_one(STATEMENT, &[&41_i32, &"Grüße", &true, &1.25_f64, &&[1_u8, 2][..], &None::<String>]).await?;
    let row = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(5));
    let rows = client.query(ROWS, &[]).await?.len();

    let (token, started) = (client.cancel_token(), Instant::now());
    let cancel = async {
        tokio::time::sleep(PATIENCE).await;
        token.cancel_query(tls).await
    };
    let (ended, sent) = tokio::join!(client.batch_execute(LONG), cancel);
    sent?;
    let sqlstate = ended.err().and_then(|error| error.code().map(|state| state.code().to_owned()));
    let after = started.elapsed();
    let alive = client.query_one("select 42", &[]).await?.get::<_, i32>(0) == 42;
    Ok(Found { row, rows, cancel: Some((sqlstate, after, alive)) })
}

/// TLS that shows client.crt and, as `sslmode=require`, believes anybody.
fn tls() -> Result<ClientConfig, Failure> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter("client.crt")?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file("client.key")?;
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

/// The error with its causes: tokio-postgres' own words are short.
fn in_full(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Looks only at whether the server holds the key that it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
