PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE dataset_files (
	dataset_id VARCHAR NOT NULL, 
	file_id VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	PRIMARY KEY (dataset_id, file_id), 
	FOREIGN KEY(dataset_id) REFERENCES datasets (id) ON DELETE CASCADE, 
	FOREIGN KEY(file_id) REFERENCES files (id)
);
INSERT INTO "dataset_files" VALUES('44444444444444444444444444444444','33333333333333333333333333333333',0);
CREATE TABLE datasets (
	id VARCHAR NOT NULL, 
	tenant_id VARCHAR NOT NULL, 
	idempotency_key VARCHAR, 
	asked TEXT NOT NULL, 
	task_id VARCHAR NOT NULL, 
	key_id VARCHAR NOT NULL, 
	created DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (tenant_id, idempotency_key), 
	FOREIGN KEY(tenant_id) REFERENCES tenants (id)
);
INSERT INTO "datasets" VALUES('44444444444444444444444444444444','11111111111111111111111111111111','k','["33333333333333333333333333333333"]','dddddddddddddddddddddddddddddddd','cccccccccccccccccccccccccccccccc',1000000000.0);
CREATE TABLE files (
	id VARCHAR NOT NULL, 
	tenant_id VARCHAR NOT NULL, 
	space VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	size INTEGER NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	manifest BLOB NOT NULL, 
	parameters_id VARCHAR NOT NULL, 
	key_id VARCHAR NOT NULL, 
	task_id VARCHAR, 
	images INTEGER, 
	labelled BOOLEAN, 
	created DOUBLE NOT NULL, 
	touched DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (tenant_id, space, sha256), 
	FOREIGN KEY(tenant_id) REFERENCES tenants (id)
);
INSERT INTO "files" VALUES('33333333333333333333333333333333','11111111111111111111111111111111','owner','images','ready',5000000000,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',X'0000000000000000000000000000000000000000000000000000000000000000','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','cccccccccccccccccccccccccccccccc','dddddddddddddddddddddddddddddddd',64,1,1000000000.0,1000000000.0);
CREATE TABLE jobs (
	id VARCHAR NOT NULL, 
	tenant_id VARCHAR NOT NULL, 
	idempotency_key VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	recipe TEXT NOT NULL, 
	inputs TEXT NOT NULL, 
	state VARCHAR NOT NULL, 
	stage VARCHAR NOT NULL, 
	progress DOUBLE NOT NULL, 
	result_file_id VARCHAR, 
	error_kind VARCHAR, 
	error_message VARCHAR, 
	worker VARCHAR, 
	lease DOUBLE, 
	deaths INTEGER NOT NULL, 
	created DOUBLE NOT NULL, 
	started DOUBLE, 
	finished DOUBLE, 
	PRIMARY KEY (id), 
	UNIQUE (tenant_id, idempotency_key), 
	FOREIGN KEY(tenant_id) REFERENCES tenants (id)
);
INSERT INTO "jobs" VALUES('55555555555555555555555555555555','11111111111111111111111111111111','j','train','{}','{"data":["33333333333333333333333333333333"]}','queued','',0.0,NULL,NULL,NULL,NULL,NULL,0,1000000000.0,NULL,NULL);
CREATE TABLE tenants (
	id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	quota_bytes INTEGER NOT NULL, 
	quota_jobs INTEGER NOT NULL, 
	created DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "tenants" VALUES('11111111111111111111111111111111','clinic',200000000000,64,1000000000.0);
CREATE TABLE tokens (
	id VARCHAR NOT NULL, 
	tenant_id VARCHAR NOT NULL, 
	digest BLOB NOT NULL, 
	scope VARCHAR NOT NULL, 
	dataset_id VARCHAR, 
	note VARCHAR NOT NULL, 
	created DOUBLE NOT NULL, 
	revoked DOUBLE, 
	PRIMARY KEY (id), 
	FOREIGN KEY(tenant_id) REFERENCES tenants (id)
);
INSERT INTO "tokens" VALUES('22222222222222222222222222222222','11111111111111111111111111111111',X'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F','owner',NULL,'ward 3',1000000000.0,NULL);
CREATE INDEX ix_tokens_tenant_id ON tokens (tenant_id);
CREATE INDEX ix_datasets_tenant_id ON datasets (tenant_id);
CREATE INDEX jobs_state ON jobs (state, created);
CREATE INDEX ix_dataset_files_file_id ON dataset_files (file_id);
COMMIT;
