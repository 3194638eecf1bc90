BEGIN TRANSACTION;
CREATE TABLE access_log (
	number INTEGER NOT NULL, 
	quarter_us INTEGER NOT NULL, 
	at_us INTEGER NOT NULL, 
	operator VARCHAR(80) NOT NULL, 
	subject VARCHAR(200) NOT NULL, 
	attributes VARCHAR(500) NOT NULL, 
	purpose VARCHAR(40) NOT NULL, 
	ticket VARCHAR(100) NOT NULL, 
	count INTEGER NOT NULL, 
	previous BLOB NOT NULL, 
	sha256 BLOB NOT NULL, 
	CONSTRAINT pk_access_log PRIMARY KEY (number)
);
CREATE TABLE actions (
	id INTEGER NOT NULL, 
	at_us INTEGER NOT NULL, 
	actor VARCHAR(80) NOT NULL, 
	what VARCHAR(60) NOT NULL, 
	subject VARCHAR(200) NOT NULL, 
	"before" VARCHAR, 
	"after" VARCHAR, 
	CONSTRAINT pk_actions PRIMARY KEY (id)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE api_tokens (
	id INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	token_sha256 BLOB NOT NULL, 
	scopes VARCHAR NOT NULL, 
	created_by VARCHAR(64) NOT NULL, 
	created_us INTEGER NOT NULL, 
	expires_us INTEGER, 
	used_us INTEGER, 
	revoked_us INTEGER, 
	CONSTRAINT pk_api_tokens PRIMARY KEY (id), 
	CONSTRAINT uq_api_tokens_name UNIQUE (name), 
	CONSTRAINT uq_api_tokens_token_sha256 UNIQUE (token_sha256)
);
CREATE TABLE channels (
	id INTEGER NOT NULL, 
	module_id INTEGER NOT NULL, 
	number SMALLINT NOT NULL, 
	note VARCHAR(500) DEFAULT '' NOT NULL, 
	CONSTRAINT pk_channels PRIMARY KEY (id), 
	CONSTRAINT ck_channels_from_one CHECK (number >= 1), 
	CONSTRAINT fk_channels_module_id FOREIGN KEY(module_id) REFERENCES modules (id), 
	CONSTRAINT uq_channels_module_id_number UNIQUE (module_id, number)
);
INSERT INTO "channels" VALUES(1,1,1,'');
INSERT INTO "channels" VALUES(2,2,1,'');
INSERT INTO "channels" VALUES(3,3,1,'');
INSERT INTO "channels" VALUES(4,3,2,'');
INSERT INTO "channels" VALUES(5,3,3,'');
INSERT INTO "channels" VALUES(6,4,1,'');
CREATE TABLE cities (
	number INTEGER NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	CONSTRAINT pk_cities PRIMARY KEY (number), 
	CONSTRAINT uq_cities_name UNIQUE (name)
);
INSERT INTO "cities" VALUES(1,'Lyon');
INSERT INTO "cities" VALUES(2,'Nantes');
CREATE TABLE commands (
	id VARCHAR(26) NOT NULL, 
	module_id INTEGER NOT NULL, 
	name VARCHAR(40) NOT NULL, 
	arguments VARCHAR NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	sent_by VARCHAR(80) NOT NULL, 
	bulk_id VARCHAR(26), 
	created_us INTEGER NOT NULL, 
	expires_us INTEGER NOT NULL, 
	sent_us INTEGER, 
	done_us INTEGER, 
	result VARCHAR, 
	CONSTRAINT pk_commands PRIMARY KEY (id), 
	CONSTRAINT fk_commands_module_id FOREIGN KEY(module_id) REFERENCES modules (id) ON DELETE CASCADE
);
CREATE TABLE credentials (
	id INTEGER NOT NULL, 
	username VARCHAR(128) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	secret_sha256 BLOB NOT NULL, 
	publish VARCHAR DEFAULT '' NOT NULL, 
	subscribe VARCHAR DEFAULT '' NOT NULL, 
	module_id INTEGER, 
	blocked_us INTEGER, 
	created_us INTEGER NOT NULL, 
	last_used_us INTEGER, 
	note VARCHAR(500) DEFAULT '' NOT NULL, 
	CONSTRAINT pk_credentials PRIMARY KEY (id), 
	CONSTRAINT ck_credentials_module_named CHECK (kind <> 'module' OR module_id IS NOT NULL), 
	CONSTRAINT fk_credentials_module_id FOREIGN KEY(module_id) REFERENCES modules (id) ON DELETE CASCADE, 
	CONSTRAINT uq_credentials_username UNIQUE (username)
);
INSERT INTO "credentials" VALUES(1,'WD-1','module',X'FB89F7A525D7BA10B3F69A84B6716EC1AC78C8368D63BB8923ADB4BCCB38BC6F','','',1,NULL,1800000000000000,NULL,'');
INSERT INTO "credentials" VALUES(2,'WD-2','module',X'A8849433573B5EA04F8EE3AD59FE39A7BC856872E80CD9DBA3EF53D668CB0C52','','',2,1800000000000000,1800000000000000,NULL,'');
INSERT INTO "credentials" VALUES(3,'CLAMP-1','module',X'41E4111D1BCC01A76AFAB049D706A3D165BE4875A0FA92289F7BB569AA9F0C25','','',3,NULL,1800000000000000,NULL,'');
INSERT INTO "credentials" VALUES(4,'gateway','source',X'EC5F2227FDFFFB26E60FF95623711E062B4A60292E00FB5A2CBC101C53EECB0D','tele/+/SENSOR','cmnd/#',NULL,NULL,1800000000000000,NULL,'');
CREATE TABLE erasures (
	id INTEGER NOT NULL, 
	at_us INTEGER NOT NULL, 
	subject VARCHAR(80) NOT NULL, 
	CONSTRAINT pk_erasures PRIMARY KEY (id), 
	CONSTRAINT uq_erasures_subject UNIQUE (subject)
);
CREATE TABLE foreign_devices (
	id INTEGER NOT NULL, 
	dialect VARCHAR(32) NOT NULL, 
	device VARCHAR(200) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	module_id INTEGER, 
	name VARCHAR(100), 
	maker VARCHAR(64), 
	model VARCHAR(64), 
	firmware VARCHAR(64), 
	facts VARCHAR, 
	power_kind VARCHAR(2), 
	messages INTEGER NOT NULL, 
	first_seen_us INTEGER NOT NULL, 
	last_seen_us INTEGER NOT NULL, 
	changed_by VARCHAR(80), 
	changed_us INTEGER, 
	CONSTRAINT pk_foreign_devices PRIMARY KEY (id), 
	CONSTRAINT fk_foreign_devices_module_id FOREIGN KEY(module_id) REFERENCES modules (id), 
	CONSTRAINT uq_foreign_devices_dialect_device UNIQUE (dialect, device), 
	CONSTRAINT uq_foreign_devices_module_id UNIQUE (module_id)
);
INSERT INTO "foreign_devices" VALUES(1,'tasmota','plug','discovered',NULL,NULL,NULL,'P1',NULL,'{"model":"P1"}','W',3,1800000000000000,1800000000000001,NULL,NULL);
CREATE TABLE holders (
	token VARCHAR(12) NOT NULL, 
	created_us INTEGER NOT NULL, 
	CONSTRAINT pk_holders PRIMARY KEY (token), 
	CONSTRAINT fk_holders_token FOREIGN KEY(token) REFERENCES token_ledger (token)
);
INSERT INTO "holders" VALUES('c-X0A6XYH71N',1800000000000000);
CREATE TABLE jobs (
	id VARCHAR(26) NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	owner VARCHAR(80) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	parameters VARCHAR NOT NULL, 
	cursor VARCHAR, 
	done INTEGER DEFAULT '0' NOT NULL, 
	total INTEGER, 
	message VARCHAR(500) DEFAULT '' NOT NULL, 
	cancel_asked BOOLEAN NOT NULL, 
	created_us INTEGER NOT NULL, 
	started_us INTEGER, 
	finished_us INTEGER, 
	result_file VARCHAR(200), 
	result_expires_us INTEGER, 
	CONSTRAINT pk_jobs PRIMARY KEY (id)
);
CREATE TABLE key_ledger (
	"key" INTEGER NOT NULL, 
	CONSTRAINT pk_key_ledger PRIMARY KEY ("key")
);
INSERT INTO "key_ledger" VALUES(486506653764154790);
INSERT INTO "key_ledger" VALUES(717616472040597599);
INSERT INTO "key_ledger" VALUES(2777069861430717334);
INSERT INTO "key_ledger" VALUES(4194788264272935506);
INSERT INTO "key_ledger" VALUES(4333205027883256354);
INSERT INTO "key_ledger" VALUES(5158413602545391787);
INSERT INTO "key_ledger" VALUES(6148469564007155206);
INSERT INTO "key_ledger" VALUES(6821623408661730465);
CREATE TABLE keys (
	"key" INTEGER NOT NULL, 
	channel_id INTEGER NOT NULL, 
	pairing_id INTEGER, 
	holder_token VARCHAR(12), 
	from_us INTEGER NOT NULL, 
	to_us INTEGER, 
	collection_level SMALLINT NOT NULL, 
	CONSTRAINT pk_keys PRIMARY KEY ("key"), 
	CONSTRAINT ck_keys_positive CHECK (key > 0), 
	CONSTRAINT ck_keys_in_order CHECK (to_us IS NULL OR to_us >= from_us), 
	CONSTRAINT fk_keys_channel_id FOREIGN KEY(channel_id) REFERENCES channels (id), 
	CONSTRAINT fk_keys_holder_token FOREIGN KEY(holder_token) REFERENCES holders (token), 
	CONSTRAINT fk_keys_key FOREIGN KEY("key") REFERENCES key_ledger ("key"), 
	CONSTRAINT fk_keys_pairing_id FOREIGN KEY(pairing_id) REFERENCES pairings (id)
);
INSERT INTO "keys" VALUES(486506653764154790,1,NULL,NULL,0,1800000000000000,3);
INSERT INTO "keys" VALUES(717616472040597599,5,NULL,NULL,0,NULL,3);
INSERT INTO "keys" VALUES(2777069861430717334,2,NULL,NULL,0,NULL,3);
INSERT INTO "keys" VALUES(4194788264272935506,1,NULL,NULL,1800000000000001,NULL,0);
INSERT INTO "keys" VALUES(4333205027883256354,3,NULL,NULL,0,NULL,3);
INSERT INTO "keys" VALUES(5158413602545391787,1,1,'c-X0A6XYH71N',1800000000000000,1800000000000001,1);
INSERT INTO "keys" VALUES(6148469564007155206,6,NULL,NULL,0,NULL,3);
INSERT INTO "keys" VALUES(6821623408661730465,4,NULL,NULL,0,NULL,3);
CREATE TABLE module_tags (
	module_id INTEGER NOT NULL, 
	tag VARCHAR(40) NOT NULL, 
	CONSTRAINT pk_module_tags PRIMARY KEY (module_id, tag), 
	CONSTRAINT fk_module_tags_module_id FOREIGN KEY(module_id) REFERENCES modules (id) ON DELETE CASCADE
);
CREATE TABLE modules (
	id INTEGER NOT NULL, 
	serial VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	dialect VARCHAR(32) NOT NULL, 
	period_ms INTEGER, 
	firmware VARCHAR(64), 
	hardware VARCHAR(64), 
	meter_serial VARCHAR(64), 
	collection VARCHAR(16) NOT NULL, 
	created_us INTEGER NOT NULL, 
	note VARCHAR(500) DEFAULT '' NOT NULL, version INTEGER DEFAULT '1' NOT NULL, 
	CONSTRAINT pk_modules PRIMARY KEY (id), 
	CONSTRAINT uq_modules_serial UNIQUE (serial)
);
INSERT INTO "modules" VALUES(1,'WD-1','module','wattdeck',1000,NULL,NULL,NULL,'active',1800000000000000,'',1);
INSERT INTO "modules" VALUES(2,'WD-2','module','wattdeck',1000,NULL,NULL,NULL,'active',1800000000000000,'',1);
INSERT INTO "modules" VALUES(3,'CLAMP-1','module','shelly',NULL,NULL,NULL,NULL,'active',1800000000000000,'',1);
INSERT INTO "modules" VALUES(4,'LINKY-1','meter','tic',1000,NULL,NULL,'M-2','active',1800000000000000,'',1);
CREATE TABLE operators (
	id INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	full_name VARCHAR(120) DEFAULT '' NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	password_hash VARCHAR(255) NOT NULL, 
	must_change_password BOOLEAN NOT NULL, 
	password_us INTEGER NOT NULL, 
	created_us INTEGER NOT NULL, 
	disabled_us INTEGER, 
	failed_logins INTEGER DEFAULT '0' NOT NULL, 
	locked_until_us INTEGER, 
	version INTEGER DEFAULT '1' NOT NULL, 
	CONSTRAINT pk_operators PRIMARY KEY (id), 
	CONSTRAINT uq_operators_name UNIQUE (name)
);
CREATE TABLE pairings (
	id INTEGER NOT NULL, 
	site_id INTEGER NOT NULL, 
	channel_id INTEGER NOT NULL, 
	meter_serial VARCHAR(64), 
	from_us INTEGER NOT NULL, 
	to_us INTEGER, 
	CONSTRAINT pk_pairings PRIMARY KEY (id), 
	CONSTRAINT ck_pairings_in_order CHECK (to_us IS NULL OR to_us >= from_us), 
	CONSTRAINT fk_pairings_channel_id FOREIGN KEY(channel_id) REFERENCES channels (id), 
	CONSTRAINT fk_pairings_site_id FOREIGN KEY(site_id) REFERENCES sites (id)
);
INSERT INTO "pairings" VALUES(1,1,1,'M-1',1800000000000000,1800000000000001);
CREATE TABLE person_keys (
	subject VARCHAR(80) NOT NULL, 
	secret BLOB NOT NULL, 
	created_us INTEGER NOT NULL, 
	CONSTRAINT pk_person_keys PRIMARY KEY (subject)
);
CREATE TABLE saved_views (
	id INTEGER NOT NULL, 
	operator_id INTEGER, 
	page VARCHAR(40) NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	definition VARCHAR NOT NULL, 
	shared BOOLEAN NOT NULL, 
	version INTEGER DEFAULT '1' NOT NULL, 
	CONSTRAINT pk_saved_views PRIMARY KEY (id), 
	CONSTRAINT fk_saved_views_operator_id FOREIGN KEY(operator_id) REFERENCES operators (id) ON DELETE CASCADE, 
	CONSTRAINT uq_saved_views_operator_id_page_name UNIQUE (operator_id, page, name)
);
CREATE TABLE sessions (
	id INTEGER NOT NULL, 
	operator_id INTEGER NOT NULL, 
	token_sha256 BLOB NOT NULL, 
	created_us INTEGER NOT NULL, 
	expires_us INTEGER NOT NULL, 
	used_us INTEGER NOT NULL, 
	agent VARCHAR(200) DEFAULT '' NOT NULL, 
	CONSTRAINT pk_sessions PRIMARY KEY (id), 
	CONSTRAINT fk_sessions_operator_id FOREIGN KEY(operator_id) REFERENCES operators (id) ON DELETE CASCADE, 
	CONSTRAINT uq_sessions_token_sha256 UNIQUE (token_sha256)
);
CREATE TABLE sites (
	id INTEGER NOT NULL, 
	city VARCHAR(100) NOT NULL, 
	zone VARCHAR(64) NOT NULL, 
	street VARCHAR(200), 
	postcode VARCHAR(20), 
	delivery_point VARCHAR(40), 
	created_us INTEGER NOT NULL, version INTEGER DEFAULT '1' NOT NULL, 
	CONSTRAINT pk_sites PRIMARY KEY (id)
);
INSERT INTO "sites" VALUES(1,'Lyon','Europe/Paris','1 rue d''Exemple','69001',NULL,1800000000000000,1);
INSERT INTO "sites" VALUES(2,'Nantes','Europe/Paris',NULL,NULL,NULL,1800000000000000,1);
CREATE TABLE token_ledger (
	token VARCHAR(12) NOT NULL, 
	CONSTRAINT pk_token_ledger PRIMARY KEY (token)
);
INSERT INTO "token_ledger" VALUES('c-X0A6XYH71N');
CREATE INDEX ix_sites_city ON sites (city);
CREATE INDEX ix_credentials_module_id ON credentials (module_id);
CREATE INDEX ix_pairings_channel_id ON pairings (channel_id);
CREATE INDEX ix_pairings_site_id ON pairings (site_id);
CREATE UNIQUE INDEX uq_pairings_current ON pairings (channel_id) WHERE to_us IS NULL;
CREATE INDEX ix_keys_channel_id ON keys (channel_id);
CREATE INDEX ix_keys_holder_token ON keys (holder_token);
CREATE INDEX ix_keys_pairing_id ON keys (pairing_id);
CREATE UNIQUE INDEX uq_keys_current ON keys (channel_id) WHERE to_us IS NULL;
CREATE INDEX ix_access_log_operator ON access_log (operator);
CREATE INDEX ix_access_log_quarter_us ON access_log (quarter_us);
CREATE INDEX ix_access_log_subject ON access_log (subject);
CREATE INDEX ix_actions_actor ON actions (actor);
CREATE INDEX ix_actions_at_us ON actions (at_us);
CREATE INDEX ix_actions_subject ON actions (subject);
CREATE INDEX ix_jobs_created_us ON jobs (created_us);
CREATE INDEX ix_jobs_owner ON jobs (owner);
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE INDEX ix_commands_bulk_id ON commands (bulk_id);
CREATE INDEX ix_commands_created_us ON commands (created_us);
CREATE INDEX ix_commands_module_id ON commands (module_id);
CREATE INDEX ix_commands_state ON commands (state);
CREATE INDEX ix_module_tags_tag ON module_tags (tag);
CREATE INDEX ix_sessions_operator_id ON sessions (operator_id);
CREATE INDEX ix_foreign_devices_state ON foreign_devices (state);
COMMIT;
