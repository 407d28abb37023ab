"""Pull requests on the Hub: fetched, examined, judged and commented on."""
