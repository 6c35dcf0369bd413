BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(20240101000000,'initial schema','2026-11-21 12:43:09',1,X'E895B04735FC88843BF88C1FD038A4073C789DA7A74BE5E1A77EDD3AD38A832B158761F5A11410A7CF6CCB49808DA9BA',696038);
INSERT INTO "_sqlx_migrations" VALUES(20240102000000,'add attempt count','2026-11-21 12:43:09',1,X'A1AF64E4A4211FA289189A141FF453F875D6468F72E0680ACC54518F006368BDA3E877DE040B75A9693CFFA24C280008',396612);
INSERT INTO "_sqlx_migrations" VALUES(20240103000000,'add worker visible at','2026-11-21 12:43:09',1,X'01CFC0A852726929F1F7223FA9CCCF1584B34525FB49B6DB60210F143EA9923EDBF9B407958E01989FC00EE4415F6419',157655);
INSERT INTO "_sqlx_migrations" VALUES(20240104000000,'add worker activity identity','2026-11-21 12:43:09',1,X'25FAFC591102BD90CF724C5D6F2855113F9118880B7B7FB5DD7210E4086FDE7021F55A2EA7141D478363C78504CD123B',312916);
INSERT INTO "_sqlx_migrations" VALUES(20240105000000,'add parent instance id','2026-11-21 12:43:09',1,X'621CFAD15D7FECE832B660B57185BFDB753AD03561C91367897DFDC148E48EBF34FF6578BBCD6D3F139E9505BFA5EEA9',177335);
INSERT INTO "_sqlx_migrations" VALUES(20240106000000,'add pinned version','2026-11-21 12:43:09',1,X'13F4C421EDA183F3E3F1CE807E211727E2BEE2149C38EFE07F5CC12055B3E75A054900F15287295B51D7F8A29C807C00',319787);
INSERT INTO "_sqlx_migrations" VALUES(20240107000000,'add sessions','2026-11-21 12:43:09',1,X'F0AD65793A65A6D56FEEE893F24975A1B989817CC5DE694F66EF7896ABD6DD508B7A33F0E6BFC34ABD7F95945E0F0EC1',325425);
INSERT INTO "_sqlx_migrations" VALUES(20240108000000,'add custom status','2026-11-21 12:43:09',1,X'5A715BCAD01CE5A1CAFA01BA5AC66EC28E3A9E7388EC99DC239F54C189748EBC4EE2C1F0DDA132051839BACD070BFD2B',244054);
INSERT INTO "_sqlx_migrations" VALUES(20240109000000,'add activity tags','2026-11-21 12:43:09',1,X'90E079AA69023ACF1F4F08F5CDFCFC20AD2DD08573486EB10259C6BD8543B09B65CC8A05B1BCDD170CAC73715CC56384',185167);
INSERT INTO "_sqlx_migrations" VALUES(20240110000000,'add kv store','2026-11-21 12:43:09',1,X'B02718981675751D3E7FE23714483C837DF6B44FFC7C7EC83ABC3F7563ADF3DCA8427569BA0F07E7027BA16E82276985',151116);
INSERT INTO "_sqlx_migrations" VALUES(20240111000000,'add kv last updated','2026-11-21 12:43:09',1,X'3F003C0CF9EA6F0FD8EAE9E8764AEE547B1368D77B6FE88CF5CD63A8E1E3E00264B55C1F7DE23108018585C1F53C4390',232306);
INSERT INTO "_sqlx_migrations" VALUES(20240112000000,'add kv delta','2026-11-21 12:43:09',1,X'FA25F50C9660870E43CCFE64E019FEC5AB5FC92A608378A249CBC614CFC8499B00BB940FCBB31DFF96850FE6C0FDA9B4',622268);
CREATE TABLE executions (
    instance_id TEXT NOT NULL,
    execution_id INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'Running',
    output TEXT,
    started_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    completed_at TIMESTAMP, duroxide_version_major INTEGER, duroxide_version_minor INTEGER, duroxide_version_patch INTEGER,
    PRIMARY KEY (instance_id, execution_id)
);
INSERT INTO "executions" VALUES('done-greeting',1,'Completed','"Hello, Ada! 6"','2026-11-21 12:43:09',1795264989795,0,1,32);
INSERT INTO "executions" VALUES('done-refusal',1,'Failed','{"type": "ValueError", "message": "email is required"}','2026-11-21 12:43:09',1795264989822,0,1,32);
INSERT INTO "executions" VALUES('done-countdown',1,'ContinuedAsNew','1','2026-11-21 12:43:09',1795264989831,0,1,32);
INSERT INTO "executions" VALUES('done-parent',1,'Completed','["parent", 8]','2026-11-21 12:43:09',1795264989852,0,1,32);
INSERT INTO "executions" VALUES('done-parent-child',1,'Completed','8','2026-11-21 12:43:09',1795264989848,0,1,32);
INSERT INTO "executions" VALUES('done-cancelled',1,'Failed','canceled: no longer wanted','2026-11-21 12:43:09',1795264989856,0,1,32);
INSERT INTO "executions" VALUES('done-countdown',2,'ContinuedAsNew','0','2026-11-21 12:43:09',1795264989850,0,1,32);
INSERT INTO "executions" VALUES('done-countdown',3,'Completed','{"execution 1": "2", "execution 2": "1", "execution 3": "0", "last": "0"}','2026-11-21 12:43:09',1795264989859,0,1,32);
INSERT INTO "executions" VALUES('event',1,'Running',NULL,'2026-11-21 12:43:09',NULL,0,1,32);
INSERT INTO "executions" VALUES('event-not-taken',1,'Running',NULL,'2026-11-21 12:43:09',NULL,0,1,32);
INSERT INTO "executions" VALUES('mailbox',1,'Running',NULL,'2026-11-21 12:43:09',NULL,0,1,32);
INSERT INTO "executions" VALUES('sleeper',1,'Running',NULL,'2026-11-21 12:43:09',NULL,0,1,32);
INSERT INTO "executions" VALUES('far-sleeper',1,'Running',NULL,'2026-11-21 12:43:09',NULL,0,1,32);
INSERT INTO "executions" VALUES('parent',1,'Running',NULL,'2026-11-21 12:43:09',NULL,0,1,32);
INSERT INTO "executions" VALUES('parent-child',1,'Running',NULL,'2026-11-21 12:43:09',NULL,0,1,32);
INSERT INTO "executions" VALUES('tagged',1,'Running',NULL,'2026-11-21 12:43:09',NULL,0,1,32);
INSERT INTO "executions" VALUES('session',1,'Running',NULL,'2026-11-21 12:43:09',NULL,0,1,32);
INSERT INTO "executions" VALUES('records',1,'ContinuedAsNew','0','2026-11-21 12:43:10',1795264990019,0,1,32);
INSERT INTO "executions" VALUES('records',2,'Running',NULL,'2026-11-21 12:43:10',NULL,0,1,32);
INSERT INTO "executions" VALUES('patient',1,'Running',NULL,'2026-11-21 12:43:10',NULL,0,1,32);
INSERT INTO "executions" VALUES('versioned',1,'Running',NULL,'2026-11-21 12:43:10',NULL,0,1,32);
INSERT INTO "executions" VALUES('moments',1,'Running',NULL,'2026-11-21 12:43:10',NULL,0,1,32);
INSERT INTO "executions" VALUES('to-be-cancelled',1,'Running',NULL,'2026-11-21 12:43:10',NULL,0,1,32);
INSERT INTO "executions" VALUES('chain',1,'Running',NULL,'2026-11-21 12:43:10',NULL,0,1,32);
INSERT INTO "executions" VALUES('fan-out',1,'Running',NULL,'2026-11-21 12:43:10',NULL,0,1,32);
INSERT INTO "executions" VALUES('session-queued',1,'Running',NULL,'2026-11-21 12:43:10',NULL,0,1,32);
CREATE TABLE history (
    instance_id TEXT NOT NULL,
    execution_id INTEGER NOT NULL,
    event_id INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    event_data TEXT NOT NULL, -- JSON serialized Event
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (instance_id, execution_id, event_id)
);
INSERT INTO "history" VALUES('done-greeting',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"done-greeting","execution_id":1,"timestamp_ms":1795264989757,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"greeting","version":"1.0.0","input":"\"Ada\"","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-greeting',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"done-greeting","execution_id":1,"timestamp_ms":1795264989757,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"3"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-refusal',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"done-refusal","execution_id":1,"timestamp_ms":1795264989775,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"refusal","version":"1.0.0","input":"\"x\"","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-refusal',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"done-refusal","execution_id":1,"timestamp_ms":1795264989775,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"refuse","input":"\"x\""}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"done-countdown","execution_id":1,"timestamp_ms":1795264989776,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"countdown","version":"1.0.0","input":"2","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',1,2,'KeyValueSet','{"event_id":2,"source_event_id":null,"instance_id":"done-countdown","execution_id":1,"timestamp_ms":1795264989776,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"execution 1","value":"2","last_updated_at_ms":1795264989776}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',1,3,'KeyValueSet','{"event_id":3,"source_event_id":null,"instance_id":"done-countdown","execution_id":1,"timestamp_ms":1795264989776,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"last","value":"2","last_updated_at_ms":1795264989776}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',1,4,'ActivityScheduled','{"event_id":4,"source_event_id":null,"instance_id":"done-countdown","execution_id":1,"timestamp_ms":1795264989776,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"2"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-greeting',1,3,'ActivityCompleted','{"event_id":3,"source_event_id":2,"instance_id":"done-greeting","execution_id":1,"timestamp_ms":1795264989790,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"6"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-greeting',1,4,'OrchestrationCompleted','{"event_id":4,"source_event_id":null,"instance_id":"done-greeting","execution_id":1,"timestamp_ms":1795264989790,"duroxide_version":"0.1.32","type":"OrchestrationCompleted","output":"\"Hello, Ada! 6\""}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-parent',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"done-parent","execution_id":1,"timestamp_ms":1795264989791,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"parent","version":"1.0.0","input":"4","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-parent',1,2,'SubOrchestrationScheduled','{"event_id":2,"source_event_id":null,"instance_id":"done-parent","execution_id":1,"timestamp_ms":1795264989791,"duroxide_version":"0.1.32","type":"SubOrchestrationScheduled","name":"child","instance":"done-parent-child","input":"4"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-refusal',1,3,'ActivityFailed','{"event_id":3,"source_event_id":2,"instance_id":"done-refusal","execution_id":1,"timestamp_ms":1795264989796,"duroxide_version":"0.1.32","type":"ActivityFailed","details":{"Application":{"kind":"ActivityFailed","message":"{\"type\": \"ValueError\", \"message\": \"email is required\"}","retryable":false}}}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-refusal',1,4,'OrchestrationFailed','{"event_id":4,"source_event_id":null,"instance_id":"done-refusal","execution_id":1,"timestamp_ms":1795264989796,"duroxide_version":"0.1.32","type":"OrchestrationFailed","details":{"Application":{"kind":"OrchestrationFailed","message":"{\"type\": \"ValueError\", \"message\": \"email is required\"}","retryable":false}}}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-parent-child',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"done-parent-child","execution_id":1,"timestamp_ms":1795264989813,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"child","version":"1.0.0","input":"4","parent_instance":"done-parent","parent_id":2,"parent_execution_id":1}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-parent-child',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"done-parent-child","execution_id":1,"timestamp_ms":1795264989813,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"4"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',1,5,'ActivityCompleted','{"event_id":5,"source_event_id":4,"instance_id":"done-countdown","execution_id":1,"timestamp_ms":1795264989811,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"4"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',1,6,'OrchestrationContinuedAsNew','{"event_id":6,"source_event_id":null,"instance_id":"done-countdown","execution_id":1,"timestamp_ms":1795264989811,"duroxide_version":"0.1.32","type":"OrchestrationContinuedAsNew","input":"1"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-cancelled',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"done-cancelled","execution_id":1,"timestamp_ms":1795264989818,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"events","version":"1.0.0","input":"null","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-cancelled',1,2,'ExternalSubscribed','{"event_id":2,"source_event_id":null,"instance_id":"done-cancelled","execution_id":1,"timestamp_ms":1795264989818,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',2,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"done-countdown","execution_id":2,"timestamp_ms":1795264989839,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"countdown","version":"1.0.0","input":"1","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',2,2,'KeyValueSet','{"event_id":2,"source_event_id":null,"instance_id":"done-countdown","execution_id":2,"timestamp_ms":1795264989839,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"execution 2","value":"1","last_updated_at_ms":1795264989839}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',2,3,'KeyValueSet','{"event_id":3,"source_event_id":null,"instance_id":"done-countdown","execution_id":2,"timestamp_ms":1795264989839,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"last","value":"1","last_updated_at_ms":1795264989839}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',2,4,'ActivityScheduled','{"event_id":4,"source_event_id":null,"instance_id":"done-countdown","execution_id":2,"timestamp_ms":1795264989839,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"1"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-parent-child',1,3,'ActivityCompleted','{"event_id":3,"source_event_id":2,"instance_id":"done-parent-child","execution_id":1,"timestamp_ms":1795264989846,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"8"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-parent-child',1,4,'OrchestrationCompleted','{"event_id":4,"source_event_id":null,"instance_id":"done-parent-child","execution_id":1,"timestamp_ms":1795264989846,"duroxide_version":"0.1.32","type":"OrchestrationCompleted","output":"8"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',2,5,'ActivityCompleted','{"event_id":5,"source_event_id":4,"instance_id":"done-countdown","execution_id":2,"timestamp_ms":1795264989847,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"2"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',2,6,'OrchestrationContinuedAsNew','{"event_id":6,"source_event_id":null,"instance_id":"done-countdown","execution_id":2,"timestamp_ms":1795264989847,"duroxide_version":"0.1.32","type":"OrchestrationContinuedAsNew","input":"0"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-parent',1,3,'SubOrchestrationCompleted','{"event_id":3,"source_event_id":2,"instance_id":"done-parent","execution_id":1,"timestamp_ms":1795264989850,"duroxide_version":"0.1.32","type":"SubOrchestrationCompleted","result":"8"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-parent',1,4,'OrchestrationCompleted','{"event_id":4,"source_event_id":null,"instance_id":"done-parent","execution_id":1,"timestamp_ms":1795264989850,"duroxide_version":"0.1.32","type":"OrchestrationCompleted","output":"[\"parent\", 8]"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',3,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"done-countdown","execution_id":3,"timestamp_ms":1795264989851,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"countdown","version":"1.0.0","input":"0","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',3,2,'KeyValueSet','{"event_id":2,"source_event_id":null,"instance_id":"done-countdown","execution_id":3,"timestamp_ms":1795264989851,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"execution 3","value":"0","last_updated_at_ms":1795264989851}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',3,3,'KeyValueSet','{"event_id":3,"source_event_id":null,"instance_id":"done-countdown","execution_id":3,"timestamp_ms":1795264989851,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"last","value":"0","last_updated_at_ms":1795264989851}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',3,4,'ActivityScheduled','{"event_id":4,"source_event_id":null,"instance_id":"done-countdown","execution_id":3,"timestamp_ms":1795264989851,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"0"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-cancelled',1,3,'OrchestrationCancelRequested','{"event_id":3,"source_event_id":null,"instance_id":"done-cancelled","execution_id":1,"timestamp_ms":1795264989855,"duroxide_version":"0.1.32","type":"OrchestrationCancelRequested","reason":"no longer wanted"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-cancelled',1,4,'ExternalSubscribedCancelled','{"event_id":4,"source_event_id":2,"instance_id":"done-cancelled","execution_id":1,"timestamp_ms":1795264989855,"duroxide_version":"0.1.32","type":"ExternalSubscribedCancelled","reason":"orchestration_terminal"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-cancelled',1,5,'OrchestrationFailed','{"event_id":5,"source_event_id":null,"instance_id":"done-cancelled","execution_id":1,"timestamp_ms":1795264989855,"duroxide_version":"0.1.32","type":"OrchestrationFailed","details":{"Application":{"kind":{"Cancelled":{"reason":"no longer wanted"}},"message":"","retryable":false}}}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',3,5,'ActivityCompleted','{"event_id":5,"source_event_id":4,"instance_id":"done-countdown","execution_id":3,"timestamp_ms":1795264989858,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"0"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('done-countdown',3,6,'OrchestrationCompleted','{"event_id":6,"source_event_id":null,"instance_id":"done-countdown","execution_id":3,"timestamp_ms":1795264989858,"duroxide_version":"0.1.32","type":"OrchestrationCompleted","output":"{\"execution 1\": \"2\", \"execution 2\": \"1\", \"execution 3\": \"0\", \"last\": \"0\"}"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('event',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"event","execution_id":1,"timestamp_ms":1795264989873,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"events","version":"1.0.0","input":"null","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('event',1,2,'ExternalSubscribed','{"event_id":2,"source_event_id":null,"instance_id":"event","execution_id":1,"timestamp_ms":1795264989873,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('event-not-taken',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"event-not-taken","execution_id":1,"timestamp_ms":1795264989887,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"events","version":"1.0.0","input":"null","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('event-not-taken',1,2,'ExternalSubscribed','{"event_id":2,"source_event_id":null,"instance_id":"event-not-taken","execution_id":1,"timestamp_ms":1795264989887,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('mailbox',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"mailbox","execution_id":1,"timestamp_ms":1795264989899,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"mailbox","version":"1.0.0","input":"3","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('mailbox',1,2,'ExternalSubscribed','{"event_id":2,"source_event_id":null,"instance_id":"mailbox","execution_id":1,"timestamp_ms":1795264989899,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('sleeper',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"sleeper","execution_id":1,"timestamp_ms":1795264989911,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"sleeper","version":"1.0.0","input":"3","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('sleeper',1,2,'TimerCreated','{"event_id":2,"source_event_id":null,"instance_id":"sleeper","execution_id":1,"timestamp_ms":1795264989911,"duroxide_version":"0.1.32","type":"TimerCreated","fire_at_ms":1795524189912}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('far-sleeper',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"far-sleeper","execution_id":1,"timestamp_ms":1795264989924,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"sleeper","version":"1.0.0","input":"3650","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('far-sleeper',1,2,'TimerCreated','{"event_id":2,"source_event_id":null,"instance_id":"far-sleeper","execution_id":1,"timestamp_ms":1795264989924,"duroxide_version":"0.1.32","type":"TimerCreated","fire_at_ms":2110624989924}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('parent',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"parent","execution_id":1,"timestamp_ms":1795264989939,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"parent","version":"1.0.0","input":"-3","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('parent',1,2,'SubOrchestrationScheduled','{"event_id":2,"source_event_id":null,"instance_id":"parent","execution_id":1,"timestamp_ms":1795264989939,"duroxide_version":"0.1.32","type":"SubOrchestrationScheduled","name":"child","instance":"parent-child","input":"-3"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('parent-child',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"parent-child","execution_id":1,"timestamp_ms":1795264989948,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"child","version":"1.0.0","input":"-3","parent_instance":"parent","parent_id":2,"parent_execution_id":1}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('parent-child',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"parent-child","execution_id":1,"timestamp_ms":1795264989948,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"-3"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('tagged',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"tagged","execution_id":1,"timestamp_ms":1795264989963,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"tagged","version":"1.0.0","input":"7","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('tagged',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"tagged","execution_id":1,"timestamp_ms":1795264989963,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"7","tag":"gpu"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('session',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"session","execution_id":1,"timestamp_ms":1795264989975,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"in_session","version":"1.0.0","input":"5","parent_instance":null,"parent_id":null}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('session',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"session","execution_id":1,"timestamp_ms":1795264989975,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"5","session_id":"session-1"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('parent-child',1,3,'ActivityCompleted','{"event_id":3,"source_event_id":2,"instance_id":"parent-child","execution_id":1,"timestamp_ms":1795264989983,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"-6"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('parent-child',1,4,'ExternalSubscribed','{"event_id":4,"source_event_id":null,"instance_id":"parent-child","execution_id":1,"timestamp_ms":1795264989983,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:09');
INSERT INTO "history" VALUES('records',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"records","execution_id":1,"timestamp_ms":1795264990011,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"record_keeper","version":"1.0.0","input":"1","parent_instance":null,"parent_id":null}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('records',1,2,'KeyValueSet','{"event_id":2,"source_event_id":null,"instance_id":"records","execution_id":1,"timestamp_ms":1795264990011,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"kept","value":"from the first execution","last_updated_at_ms":1795264990011}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('records',1,3,'KeyValueSet','{"event_id":3,"source_event_id":null,"instance_id":"records","execution_id":1,"timestamp_ms":1795264990011,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"changed","value":"old","last_updated_at_ms":1795264990011}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('records',1,4,'KeyValueSet','{"event_id":4,"source_event_id":null,"instance_id":"records","execution_id":1,"timestamp_ms":1795264990011,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"cleared","value":"old","last_updated_at_ms":1795264990011}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('records',1,5,'CustomStatusUpdated','{"event_id":5,"source_event_id":null,"instance_id":"records","execution_id":1,"timestamp_ms":1795264990011,"duroxide_version":"0.1.32","type":"CustomStatusUpdated","status":"first"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('records',1,6,'OrchestrationContinuedAsNew','{"event_id":6,"source_event_id":null,"instance_id":"records","execution_id":1,"timestamp_ms":1795264990011,"duroxide_version":"0.1.32","type":"OrchestrationContinuedAsNew","input":"0"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('session',1,3,'ActivityCompleted','{"event_id":3,"source_event_id":2,"instance_id":"session","execution_id":1,"timestamp_ms":1795264990024,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"10"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('session',1,4,'ExternalSubscribed','{"event_id":4,"source_event_id":null,"instance_id":"session","execution_id":1,"timestamp_ms":1795264990024,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('records',2,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"records","execution_id":2,"timestamp_ms":1795264990024,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"record_keeper","version":"1.0.0","input":"0","parent_instance":null,"parent_id":null,"initial_custom_status":"first"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('records',2,2,'KeyValueSet','{"event_id":2,"source_event_id":null,"instance_id":"records","execution_id":2,"timestamp_ms":1795264990024,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"changed","value":"new","last_updated_at_ms":1795264990024}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('records',2,3,'KeyValueCleared','{"event_id":3,"source_event_id":null,"instance_id":"records","execution_id":2,"timestamp_ms":1795264990024,"duroxide_version":"0.1.32","type":"KeyValueCleared","key":"cleared"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('records',2,4,'CustomStatusUpdated','{"event_id":4,"source_event_id":null,"instance_id":"records","execution_id":2,"timestamp_ms":1795264990024,"duroxide_version":"0.1.32","type":"CustomStatusUpdated","status":"waiting for go"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('records',2,5,'ExternalSubscribed','{"event_id":5,"source_event_id":null,"instance_id":"records","execution_id":2,"timestamp_ms":1795264990024,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('patient',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"patient","execution_id":1,"timestamp_ms":1795264990031,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"patient","version":"1.0.0","input":"null","parent_instance":null,"parent_id":null}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('patient',1,2,'ExternalSubscribed','{"event_id":2,"source_event_id":null,"instance_id":"patient","execution_id":1,"timestamp_ms":1795264990031,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('patient',1,3,'TimerCreated','{"event_id":3,"source_event_id":null,"instance_id":"patient","execution_id":1,"timestamp_ms":1795264990031,"duroxide_version":"0.1.32","type":"TimerCreated","fire_at_ms":1797856990031}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('versioned',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"versioned","execution_id":1,"timestamp_ms":1795264990063,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"versioned","version":"1.0.0","input":"null","parent_instance":null,"parent_id":null}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('versioned',1,2,'ExternalSubscribed','{"event_id":2,"source_event_id":null,"instance_id":"versioned","execution_id":1,"timestamp_ms":1795264990063,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('moments',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"moments","execution_id":1,"timestamp_ms":1795264990075,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"moments","version":"1.0.0","input":"null","parent_instance":null,"parent_id":null}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('moments',1,2,'KeyValueSet','{"event_id":2,"source_event_id":null,"instance_id":"moments","execution_id":1,"timestamp_ms":1795264990075,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"drawn","value":"[\"2026-11-21T12:43:10.075000+00:00\", \"2641c538-1c1c-4a04-8d3e-782eb899f6a7\", 0.9750457501690871]","last_updated_at_ms":1795264990075}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('moments',1,3,'ExternalSubscribed','{"event_id":3,"source_event_id":null,"instance_id":"moments","execution_id":1,"timestamp_ms":1795264990075,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('to-be-cancelled',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"to-be-cancelled","execution_id":1,"timestamp_ms":1795264990092,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"events","version":"1.0.0","input":"null","parent_instance":null,"parent_id":null}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('to-be-cancelled',1,2,'ExternalSubscribed','{"event_id":2,"source_event_id":null,"instance_id":"to-be-cancelled","execution_id":1,"timestamp_ms":1795264990092,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('event',1,3,'ExternalEvent','{"event_id":3,"source_event_id":null,"instance_id":"event","execution_id":1,"timestamp_ms":1795264990139,"duroxide_version":"0.1.32","type":"ExternalEvent","name":"go","data":"\"recorded before\""}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('event',1,4,'ExternalSubscribed','{"event_id":4,"source_event_id":null,"instance_id":"event","execution_id":1,"timestamp_ms":1795264990139,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('patient',1,4,'ExternalEvent','{"event_id":4,"source_event_id":null,"instance_id":"patient","execution_id":1,"timestamp_ms":1795264990155,"duroxide_version":"0.1.32","type":"ExternalEvent","name":"go","data":"null"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('patient',1,5,'ExternalSubscribed','{"event_id":5,"source_event_id":null,"instance_id":"patient","execution_id":1,"timestamp_ms":1795264990155,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"again"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('mailbox',1,3,'ExternalEventPersistent','{"event_id":3,"source_event_id":null,"instance_id":"mailbox","execution_id":1,"timestamp_ms":1795264990174,"duroxide_version":"0.1.32","type":"ExternalEventPersistent","name":"inbox","data":"one"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('mailbox',1,4,'ExternalEventPersistent','{"event_id":4,"source_event_id":null,"instance_id":"mailbox","execution_id":1,"timestamp_ms":1795264990192,"duroxide_version":"0.1.32","type":"ExternalEventPersistent","name":"inbox","data":"two"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('chain',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"chain","execution_id":1,"timestamp_ms":1795264990400,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"chain","version":"1.0.0","input":"4","parent_instance":null,"parent_id":null}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('chain',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"chain","execution_id":1,"timestamp_ms":1795264990400,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"0"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('chain',1,3,'ActivityCompleted','{"event_id":3,"source_event_id":2,"instance_id":"chain","execution_id":1,"timestamp_ms":1795264990410,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"0"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('chain',1,4,'ActivityScheduled','{"event_id":4,"source_event_id":null,"instance_id":"chain","execution_id":1,"timestamp_ms":1795264990410,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"1"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('chain',1,5,'ActivityCompleted','{"event_id":5,"source_event_id":4,"instance_id":"chain","execution_id":1,"timestamp_ms":1795264990416,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"2"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('chain',1,6,'ActivityScheduled','{"event_id":6,"source_event_id":null,"instance_id":"chain","execution_id":1,"timestamp_ms":1795264990416,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"2"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('fan-out',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"fan-out","execution_id":1,"timestamp_ms":1795264990431,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"fan_out","version":"1.0.0","input":"6","parent_instance":null,"parent_id":null}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('fan-out',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"fan-out","execution_id":1,"timestamp_ms":1795264990431,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"0"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('fan-out',1,3,'ActivityScheduled','{"event_id":3,"source_event_id":null,"instance_id":"fan-out","execution_id":1,"timestamp_ms":1795264990431,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"1"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('fan-out',1,4,'ActivityScheduled','{"event_id":4,"source_event_id":null,"instance_id":"fan-out","execution_id":1,"timestamp_ms":1795264990431,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"2"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('fan-out',1,5,'ActivityScheduled','{"event_id":5,"source_event_id":null,"instance_id":"fan-out","execution_id":1,"timestamp_ms":1795264990431,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"3"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('fan-out',1,6,'ActivityScheduled','{"event_id":6,"source_event_id":null,"instance_id":"fan-out","execution_id":1,"timestamp_ms":1795264990431,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"4"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('fan-out',1,7,'ActivityScheduled','{"event_id":7,"source_event_id":null,"instance_id":"fan-out","execution_id":1,"timestamp_ms":1795264990431,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"5"}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('session-queued',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"session-queued","execution_id":1,"timestamp_ms":1795264990451,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"in_session","version":"1.0.0","input":"5","parent_instance":null,"parent_id":null}','2026-11-21 12:43:10');
INSERT INTO "history" VALUES('session-queued',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"session-queued","execution_id":1,"timestamp_ms":1795264990451,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"double","input":"5","session_id":"session-1"}','2026-11-21 12:43:10');
CREATE TABLE instance_locks (
    instance_id TEXT PRIMARY KEY,
    lock_token TEXT NOT NULL,
    locked_until INTEGER NOT NULL,
    locked_at INTEGER NOT NULL
);
INSERT INTO "instance_locks" VALUES('in-turn','lock_5eb61ee3-5314-41ec-b270-fc0762c2a132',1795264995467,1795264990467);
CREATE TABLE instances (
    instance_id TEXT PRIMARY KEY,
    orchestration_name TEXT NOT NULL,
    orchestration_version TEXT NOT NULL,
    current_execution_id INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
, parent_instance_id TEXT REFERENCES instances(instance_id), custom_status TEXT, custom_status_version INTEGER NOT NULL DEFAULT 0);
INSERT INTO "instances" VALUES('done-greeting','greeting','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('done-refusal','refusal','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('done-countdown','countdown','1.0.0',3,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('done-parent','parent','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('done-parent-child','child','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09','done-parent',NULL,0);
INSERT INTO "instances" VALUES('done-cancelled','events','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('event','events','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('event-not-taken','events','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('mailbox','mailbox','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('sleeper','sleeper','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('far-sleeper','sleeper','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('parent','parent','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('parent-child','child','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09','parent',NULL,0);
INSERT INTO "instances" VALUES('tagged','tagged','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('session','in_session','1.0.0',1,'2026-11-21 12:43:09','2026-11-21 12:43:09',NULL,NULL,0);
INSERT INTO "instances" VALUES('records','record_keeper','1.0.0',2,'2026-11-21 12:43:10','2026-11-21 12:43:10',NULL,'waiting for go',2);
INSERT INTO "instances" VALUES('patient','patient','1.0.0',1,'2026-11-21 12:43:10','2026-11-21 12:43:10',NULL,NULL,0);
INSERT INTO "instances" VALUES('versioned','versioned','1.0.0',1,'2026-11-21 12:43:10','2026-11-21 12:43:10',NULL,NULL,0);
INSERT INTO "instances" VALUES('moments','moments','1.0.0',1,'2026-11-21 12:43:10','2026-11-21 12:43:10',NULL,NULL,0);
INSERT INTO "instances" VALUES('to-be-cancelled','events','1.0.0',1,'2026-11-21 12:43:10','2026-11-21 12:43:10',NULL,NULL,0);
INSERT INTO "instances" VALUES('chain','chain','1.0.0',1,'2026-11-21 12:43:10','2026-11-21 12:43:10',NULL,NULL,0);
INSERT INTO "instances" VALUES('fan-out','fan_out','1.0.0',1,'2026-11-21 12:43:10','2026-11-21 12:43:10',NULL,NULL,0);
INSERT INTO "instances" VALUES('session-queued','in_session','1.0.0',1,'2026-11-21 12:43:10','2026-11-21 12:43:10',NULL,NULL,0);
CREATE TABLE kv_delta (
    instance_id TEXT NOT NULL,
    key         TEXT NOT NULL,
    value       TEXT,
    last_updated_at_ms INTEGER NOT NULL,
    PRIMARY KEY (instance_id, key)
);
INSERT INTO "kv_delta" VALUES('records','changed','new',1795264990024);
INSERT INTO "kv_delta" VALUES('records','cleared',NULL,1795264990039);
INSERT INTO "kv_delta" VALUES('moments','drawn','["2026-11-21T12:43:10.075000+00:00", "2641c538-1c1c-4a04-8d3e-782eb899f6a7", 0.9750457501690871]',1795264990075);
CREATE TABLE "kv_store" (
    instance_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    last_updated_at_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (instance_id, key)
);
INSERT INTO "kv_store" VALUES('done-countdown','execution 1','2',1795264989776);
INSERT INTO "kv_store" VALUES('done-countdown','last','0',1795264989851);
INSERT INTO "kv_store" VALUES('done-countdown','execution 2','1',1795264989839);
INSERT INTO "kv_store" VALUES('done-countdown','execution 3','0',1795264989851);
INSERT INTO "kv_store" VALUES('records','changed','old',1795264990011);
INSERT INTO "kv_store" VALUES('records','cleared','old',1795264990011);
INSERT INTO "kv_store" VALUES('records','kept','from the first execution',1795264990011);
CREATE TABLE orchestrator_queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    instance_id TEXT NOT NULL,
    work_item TEXT NOT NULL, -- JSON serialized WorkItem
    visible_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    lock_token TEXT,
    locked_until TIMESTAMP,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
, attempt_count INTEGER NOT NULL DEFAULT 0 CHECK(attempt_count >= 0));
INSERT INTO "orchestrator_queue" VALUES(21,'sleeper','{"TimerFired":{"instance":"sleeper","execution_id":1,"id":2,"fire_at_ms":1795524189912}}',1795524189912,NULL,NULL,'2026-11-21 12:43:09',0);
INSERT INTO "orchestrator_queue" VALUES(23,'far-sleeper','{"TimerFired":{"instance":"far-sleeper","execution_id":1,"id":2,"fire_at_ms":2110624989924}}',2110624989924,NULL,NULL,'2026-11-21 12:43:09',0);
INSERT INTO "orchestrator_queue" VALUES(33,'patient','{"TimerFired":{"instance":"patient","execution_id":1,"id":3,"fire_at_ms":1797856990031}}',1797856990031,NULL,NULL,'2026-11-21 12:43:10',0);
INSERT INTO "orchestrator_queue" VALUES(46,'in-turn','{"StartOrchestration":{"instance":"in-turn","orchestration":"greeting","input":"\"Alan\"","version":null,"parent_instance":null,"parent_id":null,"execution_id":1}}',1795264990459,'lock_5eb61ee3-5314-41ec-b270-fc0762c2a132',NULL,'2026-11-21 12:43:10',1);
INSERT INTO "orchestrator_queue" VALUES(47,'mailbox','{"QueueMessage":{"instance":"mailbox","name":"inbox","data":"three"}}',1795264990495,NULL,NULL,'2026-11-21 12:43:10',0);
INSERT INTO "orchestrator_queue" VALUES(48,'event-not-taken','{"ExternalRaised":{"instance":"event-not-taken","name":"go","data":"\"not taken\""}}',1795264990501,NULL,NULL,'2026-11-21 12:43:10',0);
INSERT INTO "orchestrator_queue" VALUES(49,'to-be-cancelled','{"CancelInstance":{"instance":"to-be-cancelled","reason":"no longer wanted"}}',1795264990504,NULL,NULL,'2026-11-21 12:43:10',0);
INSERT INTO "orchestrator_queue" VALUES(50,'not-started','{"StartOrchestration":{"instance":"not-started","orchestration":"greeting","input":"\"Grace\"","version":null,"parent_instance":null,"parent_id":null,"execution_id":1}}',1795264990508,NULL,NULL,'2026-11-21 12:43:10',0);
INSERT INTO "orchestrator_queue" VALUES(51,'not-started-reader','{"StartOrchestration":{"instance":"not-started-reader","orchestration":"reader","input":"2","version":null,"parent_instance":null,"parent_id":null,"execution_id":1}}',1795264990512,NULL,NULL,'2026-11-21 12:43:10',0);
INSERT INTO "orchestrator_queue" VALUES(52,'not-started-reader','{"QueueMessage":{"instance":"not-started-reader","name":"inbox","data":"first"}}',1795264990516,NULL,NULL,'2026-11-21 12:43:10',0);
INSERT INTO "orchestrator_queue" VALUES(53,'not-started-reader','{"QueueMessage":{"instance":"not-started-reader","name":"inbox","data":"second"}}',1795264990520,NULL,NULL,'2026-11-21 12:43:10',0);
INSERT INTO "orchestrator_queue" VALUES(54,'not-started-versioned','{"StartOrchestration":{"instance":"not-started-versioned","orchestration":"versioned","input":"null","version":null,"parent_instance":null,"parent_id":null,"execution_id":1}}',1795264990524,NULL,NULL,'2026-11-21 12:43:10',0);
CREATE TABLE sessions (
    session_id     TEXT PRIMARY KEY,
    worker_id      TEXT NOT NULL,
    locked_until   INTEGER NOT NULL,    -- ms since epoch (heartbeat lease)
    last_activity_at INTEGER NOT NULL   -- ms since epoch (last work flow)
);
INSERT INTO "sessions" VALUES('session-1','work-18-7483',1795265019999,1795264990012);
CREATE TABLE timer_queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    work_item TEXT NOT NULL, -- JSON serialized WorkItem
    fire_at TIMESTAMP NOT NULL,
    lock_token TEXT,
    locked_until TIMESTAMP,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE worker_queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    work_item TEXT NOT NULL, -- JSON serialized WorkItem
    lock_token TEXT,
    locked_until TIMESTAMP,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
, attempt_count INTEGER NOT NULL DEFAULT 0 CHECK(attempt_count >= 0), visible_at INTEGER NOT NULL DEFAULT 0, instance_id TEXT, execution_id INTEGER, activity_id INTEGER, session_id TEXT, tag TEXT);
INSERT INTO "worker_queue" VALUES(8,'{"ActivityExecute":{"instance":"tagged","execution_id":1,"id":2,"name":"double","input":"7","tag":"gpu"}}',NULL,NULL,'2026-11-21 12:43:09',0,1795264989964,'tagged',1,2,NULL,'gpu');
INSERT INTO "worker_queue" VALUES(12,'{"ActivityExecute":{"instance":"chain","execution_id":1,"id":6,"name":"double","input":"2"}}','lock_1b502289-5c0a-41ac-83e1-16b8c0f66d7e',1795265020426,'2026-11-21 12:43:10',1,1795264990417,'chain',1,6,NULL,NULL);
INSERT INTO "worker_queue" VALUES(13,'{"ActivityExecute":{"instance":"fan-out","execution_id":1,"id":2,"name":"double","input":"0"}}','lock_79c9a5f8-4289-4b5d-bb1b-338834979a2c',1795265020433,'2026-11-21 12:43:10',1,1795264990432,'fan-out',1,2,NULL,NULL);
INSERT INTO "worker_queue" VALUES(14,'{"ActivityExecute":{"instance":"fan-out","execution_id":1,"id":3,"name":"double","input":"1"}}',NULL,NULL,'2026-11-21 12:43:10',0,1795264990432,'fan-out',1,3,NULL,NULL);
INSERT INTO "worker_queue" VALUES(15,'{"ActivityExecute":{"instance":"fan-out","execution_id":1,"id":4,"name":"double","input":"2"}}',NULL,NULL,'2026-11-21 12:43:10',0,1795264990432,'fan-out',1,4,NULL,NULL);
INSERT INTO "worker_queue" VALUES(16,'{"ActivityExecute":{"instance":"fan-out","execution_id":1,"id":5,"name":"double","input":"3"}}',NULL,NULL,'2026-11-21 12:43:10',0,1795264990432,'fan-out',1,5,NULL,NULL);
INSERT INTO "worker_queue" VALUES(17,'{"ActivityExecute":{"instance":"fan-out","execution_id":1,"id":6,"name":"double","input":"4"}}',NULL,NULL,'2026-11-21 12:43:10',0,1795264990432,'fan-out',1,6,NULL,NULL);
INSERT INTO "worker_queue" VALUES(18,'{"ActivityExecute":{"instance":"fan-out","execution_id":1,"id":7,"name":"double","input":"5"}}',NULL,NULL,'2026-11-21 12:43:10',0,1795264990432,'fan-out',1,7,NULL,NULL);
INSERT INTO "worker_queue" VALUES(19,'{"ActivityExecute":{"instance":"session-queued","execution_id":1,"id":2,"name":"double","input":"5","session_id":"session-1"}}',NULL,NULL,'2026-11-21 12:43:10',0,1795264990452,'session-queued',1,2,'session-1',NULL);
CREATE INDEX idx_orch_visible ON orchestrator_queue(visible_at, lock_token);
CREATE INDEX idx_orch_instance ON orchestrator_queue(instance_id);
CREATE INDEX idx_orch_lock ON orchestrator_queue(lock_token);
CREATE INDEX idx_worker_available ON worker_queue(lock_token, id);
CREATE INDEX idx_timer_fire ON timer_queue(fire_at, lock_token);
CREATE INDEX idx_worker_activity ON worker_queue(instance_id, execution_id, activity_id);
CREATE INDEX idx_instances_parent ON instances(parent_instance_id);
CREATE INDEX idx_worker_queue_session ON worker_queue(session_id);
CREATE INDEX idx_worker_queue_tag ON worker_queue(tag);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('orchestrator_queue',54);
INSERT INTO "sqlite_sequence" VALUES('worker_queue',19);
COMMIT;
