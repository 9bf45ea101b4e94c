//! sqlx, which never cancels.

use postern_clients::{Found, ROWS, Row, STATEMENT, answer, request};
use sqlx::{Connection as _, PgConnection};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let request = request()?;
    Ok(answer("sqlx 0.9.0", walk(&request.connection).await)?)
}

async fn walk(url: &str) -> Result<Found, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let statement = sqlx::query_as::<_, Row>(STATEMENT).bind(41).bind("Grüße").bind(true).bind(1.25);
    let row = statement.bind(vec![1_u8, 2]).bind(None::<String>).fetch_one(&mut connection).await?;
    let rows = sqlx::query(ROWS).fetch_all(&mut connection).await?.len();
    connection.close().await?;
    Ok(Found { row, rows, cancel: None })
}
