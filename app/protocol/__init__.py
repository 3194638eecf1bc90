"""The wire contract with modules: topics, typed payloads, codecs. Pure; stands on the domain."""
