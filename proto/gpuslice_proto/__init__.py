"""Generated from the .proto files beside it by proto/regenerate.sh."""
