//! The kinds of Towpath's API: types, schema, and their conversion into the domain's inputs.
