mod call_codec;
mod calls;
mod codec;
mod harness;
mod hello;
mod hostile;
mod links;
mod strangers;
