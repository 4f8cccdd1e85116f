use domo_token_client::{Broker, reqwest::blocking::Authorizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let domo = Authorizer::new(&Broker::connect()?, "data")?;
    let http = reqwest::blocking::Client::new();
    let url = std::env::args().nth(1).ok_or("which URL?")?;
    let calls = || loop {
        let status = domo.send(http.get(&url)).map(|answer| answer.status());
        println!("{status:?}");
    };
    std::thread::scope(|all| (0..8).for_each(|_| drop(all.spawn(calls))));
    Ok(())
}
