"""What a console needs of the platform's wire, without Qt: it stands on `app.protocol` and `app.domain` alone."""
