BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
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
INSERT INTO "credentials" VALUES(1,'WD-1','module',X'5D5E2A4F15AB794D4CF262386F84E2FD0721337684A68A74ABE69D6DB6D15B0E','','',1,NULL,1800000000000000,NULL,'');
INSERT INTO "credentials" VALUES(2,'WD-2','module',X'E2CF643A47B8D03C0CF591024DB37FB1360596A3B23D2F698A0E32F9B237FB3A','','',2,1800000000000000,1800000000000000,NULL,'');
INSERT INTO "credentials" VALUES(3,'CLAMP-1','module',X'4F70953CCBD2E5B0A1ADF3E63C4D2DA0620F9CCB122748006CE88F006C4022DD','','',3,NULL,1800000000000000,NULL,'');
INSERT INTO "credentials" VALUES(4,'gateway','source',X'AE54C5E82C196850D1D79A76E1CCA79FE200AC649E7F35BA4F450E6152298AB9','tele/+/SENSOR','cmnd/#',NULL,NULL,1800000000000000,NULL,'');
CREATE TABLE holders (
	token VARCHAR(12) NOT NULL, 
	created_us INTEGER NOT NULL, 
	CONSTRAINT pk_holders PRIMARY KEY (token), 
	CONSTRAINT fk_holders_token FOREIGN KEY(token) REFERENCES token_ledger (token)
);
INSERT INTO "holders" VALUES('c-H1XGWNYF11',1800000000000000);
CREATE TABLE key_ledger (
	"key" INTEGER NOT NULL, 
	CONSTRAINT pk_key_ledger PRIMARY KEY ("key")
);
INSERT INTO "key_ledger" VALUES(2020702499425373139);
INSERT INTO "key_ledger" VALUES(2736759221864090733);
INSERT INTO "key_ledger" VALUES(3159762943289585621);
INSERT INTO "key_ledger" VALUES(3834183116922574202);
INSERT INTO "key_ledger" VALUES(4270442926036913366);
INSERT INTO "key_ledger" VALUES(4593807477886919273);
INSERT INTO "key_ledger" VALUES(5700350328511632151);
INSERT INTO "key_ledger" VALUES(6441379066249881938);
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
INSERT INTO "keys" VALUES(2020702499425373139,1,NULL,NULL,0,1800000000000000,3);
INSERT INTO "keys" VALUES(2736759221864090733,5,NULL,NULL,0,NULL,3);
INSERT INTO "keys" VALUES(3159762943289585621,4,NULL,NULL,0,NULL,3);
INSERT INTO "keys" VALUES(3834183116922574202,6,NULL,NULL,0,NULL,3);
INSERT INTO "keys" VALUES(4270442926036913366,2,NULL,NULL,0,NULL,3);
INSERT INTO "keys" VALUES(4593807477886919273,1,NULL,NULL,1800000000000001,NULL,0);
INSERT INTO "keys" VALUES(5700350328511632151,3,NULL,NULL,0,NULL,3);
INSERT INTO "keys" VALUES(6441379066249881938,1,1,'c-H1XGWNYF11',1800000000000000,1800000000000001,1);
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
	note VARCHAR(500) DEFAULT '' NOT NULL, 
	CONSTRAINT pk_modules PRIMARY KEY (id), 
	CONSTRAINT uq_modules_serial UNIQUE (serial)
);
INSERT INTO "modules" VALUES(1,'WD-1','module','wattdeck',1000,NULL,NULL,NULL,'active',1800000000000000,'');
INSERT INTO "modules" VALUES(2,'WD-2','module','wattdeck',1000,NULL,NULL,NULL,'active',1800000000000000,'');
INSERT INTO "modules" VALUES(3,'CLAMP-1','module','shelly',NULL,NULL,NULL,NULL,'active',1800000000000000,'');
INSERT INTO "modules" VALUES(4,'LINKY-1','meter','tic',1000,NULL,NULL,'M-2','active',1800000000000000,'');
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
CREATE TABLE sites (
	id INTEGER NOT NULL, 
	city VARCHAR(100) NOT NULL, 
	zone VARCHAR(64) NOT NULL, 
	street VARCHAR(200), 
	postcode VARCHAR(20), 
	delivery_point VARCHAR(40), 
	created_us INTEGER NOT NULL, 
	CONSTRAINT pk_sites PRIMARY KEY (id)
);
INSERT INTO "sites" VALUES(1,'Lyon','Europe/Paris','1 rue d''Exemple','69001',NULL,1800000000000000);
INSERT INTO "sites" VALUES(2,'Nantes','Europe/Paris',NULL,NULL,NULL,1800000000000000);
CREATE TABLE token_ledger (
	token VARCHAR(12) NOT NULL, 
	CONSTRAINT pk_token_ledger PRIMARY KEY (token)
);
INSERT INTO "token_ledger" VALUES('c-H1XGWNYF11');
CREATE INDEX ix_sites_city ON sites (city);
CREATE INDEX ix_credentials_module_id ON credentials (module_id);
CREATE INDEX ix_pairings_channel_id ON pairings (channel_id);
CREATE INDEX ix_pairings_site_id ON pairings (site_id);
CREATE UNIQUE INDEX uq_pairings_current ON pairings (channel_id) WHERE to_us IS NULL;
CREATE INDEX ix_keys_channel_id ON keys (channel_id);
CREATE INDEX ix_keys_holder_token ON keys (holder_token);
CREATE INDEX ix_keys_pairing_id ON keys (pairing_id);
CREATE UNIQUE INDEX uq_keys_current ON keys (channel_id) WHERE to_us IS NULL;
COMMIT;
