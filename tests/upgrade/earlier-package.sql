BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(20240101000000,'initial schema','2026-11-21 12:47:41',1,X'E895B04735FC88843BF88C1FD038A4073C789DA7A74BE5E1A77EDD3AD38A832B158761F5A11410A7CF6CCB49808DA9BA',631172);
INSERT INTO "_sqlx_migrations" VALUES(20240102000000,'add attempt count','2026-11-21 12:47:41',1,X'A1AF64E4A4211FA289189A141FF453F875D6468F72E0680ACC54518F006368BDA3E877DE040B75A9693CFFA24C280008',450552);
INSERT INTO "_sqlx_migrations" VALUES(20240103000000,'add worker visible at','2026-11-21 12:47:41',1,X'01CFC0A852726929F1F7223FA9CCCF1584B34525FB49B6DB60210F143EA9923EDBF9B407958E01989FC00EE4415F6419',224966);
INSERT INTO "_sqlx_migrations" VALUES(20240104000000,'add worker activity identity','2026-11-21 12:47:41',1,X'25FAFC591102BD90CF724C5D6F2855113F9118880B7B7FB5DD7210E4086FDE7021F55A2EA7141D478363C78504CD123B',358534);
INSERT INTO "_sqlx_migrations" VALUES(20240105000000,'add parent instance id','2026-11-21 12:47:41',1,X'621CFAD15D7FECE832B660B57185BFDB753AD03561C91367897DFDC148E48EBF34FF6578BBCD6D3F139E9505BFA5EEA9',230484);
INSERT INTO "_sqlx_migrations" VALUES(20240106000000,'add pinned version','2026-11-21 12:47:41',1,X'13F4C421EDA183F3E3F1CE807E211727E2BEE2149C38EFE07F5CC12055B3E75A054900F15287295B51D7F8A29C807C00',363342);
INSERT INTO "_sqlx_migrations" VALUES(20240107000000,'add sessions','2026-11-21 12:47:41',1,X'F0AD65793A65A6D56FEEE893F24975A1B989817CC5DE694F66EF7896ABD6DD508B7A33F0E6BFC34ABD7F95945E0F0EC1',280809);
INSERT INTO "_sqlx_migrations" VALUES(20240108000000,'add custom status','2026-11-21 12:47:41',1,X'5A715BCAD01CE5A1CAFA01BA5AC66EC28E3A9E7388EC99DC239F54C189748EBC4EE2C1F0DDA132051839BACD070BFD2B',323452);
INSERT INTO "_sqlx_migrations" VALUES(20240109000000,'add activity tags','2026-11-21 12:47:41',1,X'90E079AA69023ACF1F4F08F5CDFCFC20AD2DD08573486EB10259C6BD8543B09B65CC8A05B1BCDD170CAC73715CC56384',236212);
INSERT INTO "_sqlx_migrations" VALUES(20240110000000,'add kv store','2026-11-21 12:47:41',1,X'B02718981675751D3E7FE23714483C837DF6B44FFC7C7EC83ABC3F7563ADF3DCA8427569BA0F07E7027BA16E82276985',208521);
INSERT INTO "_sqlx_migrations" VALUES(20240111000000,'add kv last updated','2026-11-21 12:47:41',1,X'3F003C0CF9EA6F0FD8EAE9E8764AEE547B1368D77B6FE88CF5CD63A8E1E3E00264B55C1F7DE23108018585C1F53C4390',224635);
INSERT INTO "_sqlx_migrations" VALUES(20240112000000,'add kv delta','2026-11-21 12:47:41',1,X'FA25F50C9660870E43CCFE64E019FEC5AB5FC92A608378A249CBC614CFC8499B00BB940FCBB31DFF96850FE6C0FDA9B4',605793);
CREATE TABLE executions (
    instance_id TEXT NOT NULL,
    execution_id INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'Running',
    output TEXT,
    started_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    completed_at TIMESTAMP, duroxide_version_major INTEGER, duroxide_version_minor INTEGER, duroxide_version_patch INTEGER,
    PRIMARY KEY (instance_id, execution_id)
);
INSERT INTO "executions" VALUES('done-delivery',1,'Completed','{"delivered": {"label": "\u00dc/1.5"}}','2026-11-21 12:47:41',1795265261317,0,1,32);
INSERT INTO "executions" VALUES('parcel-of-done-delivery',1,'Completed','[{"label": "\u00dc/1.5"}, 2, null, "a", "b"]','2026-11-21 12:47:41',1795265261315,0,1,32);
INSERT INTO "executions" VALUES('parcel',1,'Running',NULL,'2026-11-21 12:47:41',NULL,0,1,32);
INSERT INTO "executions" VALUES('delivery',1,'Running',NULL,'2026-11-21 12:47:41',NULL,0,1,32);
INSERT INTO "executions" VALUES('retrying',1,'Running',NULL,'2026-11-21 12:47:41',NULL,0,1,32);
INSERT INTO "executions" VALUES('counter',1,'ContinuedAsNew','1','2026-11-21 12:47:41',1795265261425,0,1,32);
INSERT INTO "executions" VALUES('parcel-of-delivery',1,'Running',NULL,'2026-11-21 12:47:41',NULL,0,1,32);
INSERT INTO "executions" VALUES('counter',2,'ContinuedAsNew','0','2026-11-21 12:47:41',1795265261529,0,1,32);
INSERT INTO "executions" VALUES('counter',3,'Running',NULL,'2026-11-21 12:47:41',NULL,0,1,32);
CREATE TABLE history (
    instance_id TEXT NOT NULL,
    execution_id INTEGER NOT NULL,
    event_id INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    event_data TEXT NOT NULL, -- JSON serialized Event
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (instance_id, execution_id, event_id)
);
INSERT INTO "history" VALUES('done-delivery',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"done-delivery","execution_id":1,"timestamp_ms":1795265261012,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"delivery","version":"1.0.0","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-done-delivery\"}","parent_instance":null,"parent_id":null}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('done-delivery',1,2,'SubOrchestrationScheduled','{"event_id":2,"source_event_id":null,"instance_id":"done-delivery","execution_id":1,"timestamp_ms":1795265261012,"duroxide_version":"0.1.32","type":"SubOrchestrationScheduled","name":"parcel","instance":"parcel-of-done-delivery","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-done-delivery\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261013,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"parcel","version":"1.0.0","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-done-delivery\"}","parent_instance":"done-delivery","parent_id":2,"parent_execution_id":1}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261014,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"label","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-done-delivery\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,3,'ActivityCompleted','{"event_id":3,"source_event_id":2,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261115,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"{\"label\": \"\\u00dc/1.5\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,4,'CustomStatusUpdated','{"event_id":4,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261116,"duroxide_version":"0.1.32","type":"CustomStatusUpdated","status":"labelled"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,5,'KeyValueSet','{"event_id":5,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261116,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"label","value":"Ü/1.5","last_updated_at_ms":1795265261116}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,6,'ActivityScheduled','{"event_id":6,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261116,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"label","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-done-delivery\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,7,'ActivityScheduled','{"event_id":7,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261116,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"label","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-done-delivery\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,8,'ActivityCompleted','{"event_id":8,"source_event_id":6,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261217,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"{\"label\": \"\\u00dc/1.5\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,9,'ActivityCompleted','{"event_id":9,"source_event_id":7,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261217,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"{\"label\": \"\\u00dc/1.5\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,10,'ExternalSubscribed','{"event_id":10,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261217,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"courier"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,11,'ExternalEvent','{"event_id":11,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261314,"duroxide_version":"0.1.32","type":"ExternalEvent","name":"courier","data":"null"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,12,'ExternalEventPersistent','{"event_id":12,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261314,"duroxide_version":"0.1.32","type":"ExternalEventPersistent","name":"notes","data":"\"a\""}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,13,'ExternalEventPersistent','{"event_id":13,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261314,"duroxide_version":"0.1.32","type":"ExternalEventPersistent","name":"notes","data":"\"b\""}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,14,'ExternalSubscribedPersistent','{"event_id":14,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261315,"duroxide_version":"0.1.32","type":"ExternalSubscribedPersistent","name":"notes"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,15,'ExternalSubscribedPersistent','{"event_id":15,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261315,"duroxide_version":"0.1.32","type":"ExternalSubscribedPersistent","name":"notes"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-done-delivery',1,16,'OrchestrationCompleted','{"event_id":16,"source_event_id":null,"instance_id":"parcel-of-done-delivery","execution_id":1,"timestamp_ms":1795265261315,"duroxide_version":"0.1.32","type":"OrchestrationCompleted","output":"[{\"label\": \"\\u00dc/1.5\"}, 2, null, \"a\", \"b\"]"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('done-delivery',1,3,'SubOrchestrationCompleted','{"event_id":3,"source_event_id":2,"instance_id":"done-delivery","execution_id":1,"timestamp_ms":1795265261316,"duroxide_version":"0.1.32","type":"SubOrchestrationCompleted","result":"[{\"label\": \"\\u00dc/1.5\"}, 2, null, \"a\", \"b\"]"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('done-delivery',1,4,'OrchestrationCompleted','{"event_id":4,"source_event_id":null,"instance_id":"done-delivery","execution_id":1,"timestamp_ms":1795265261317,"duroxide_version":"0.1.32","type":"OrchestrationCompleted","output":"{\"delivered\": {\"label\": \"\\u00dc/1.5\"}}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265261419,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"parcel","version":"1.0.0","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"\"}","parent_instance":null,"parent_id":null}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265261420,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"label","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('delivery',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"delivery","execution_id":1,"timestamp_ms":1795265261421,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"delivery","version":"1.0.0","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-delivery\"}","parent_instance":null,"parent_id":null}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('delivery',1,2,'SubOrchestrationScheduled','{"event_id":2,"source_event_id":null,"instance_id":"delivery","execution_id":1,"timestamp_ms":1795265261421,"duroxide_version":"0.1.32","type":"SubOrchestrationScheduled","name":"parcel","instance":"parcel-of-delivery","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-delivery\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('retrying',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265261422,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"retrying","version":"1.0.0","input":"null","parent_instance":null,"parent_id":null}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('retrying',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265261422,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"unreliable","input":"2"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"counter","execution_id":1,"timestamp_ms":1795265261423,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"counter","version":"1.0.0","input":"2","parent_instance":null,"parent_id":null}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',1,2,'TimerCreated','{"event_id":2,"source_event_id":null,"instance_id":"counter","execution_id":1,"timestamp_ms":1795265261423,"duroxide_version":"0.1.32","type":"TimerCreated","fire_at_ms":1795265261424}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-delivery',1,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"parcel-of-delivery","execution_id":1,"timestamp_ms":1795265261424,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"parcel","version":"1.0.0","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-delivery\"}","parent_instance":"delivery","parent_id":2,"parent_execution_id":1}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-delivery',1,2,'ActivityScheduled','{"event_id":2,"source_event_id":null,"instance_id":"parcel-of-delivery","execution_id":1,"timestamp_ms":1795265261424,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"label","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-delivery\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',1,3,'TimerFired','{"event_id":3,"source_event_id":2,"instance_id":"counter","execution_id":1,"timestamp_ms":1795265261425,"duroxide_version":"0.1.32","type":"TimerFired","fire_at_ms":1795265261424}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',1,4,'OrchestrationContinuedAsNew','{"event_id":4,"source_event_id":null,"instance_id":"counter","execution_id":1,"timestamp_ms":1795265261425,"duroxide_version":"0.1.32","type":"OrchestrationContinuedAsNew","input":"1"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',2,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"counter","execution_id":2,"timestamp_ms":1795265261426,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"counter","version":"1.0.0","input":"1","parent_instance":null,"parent_id":null}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',2,2,'TimerCreated','{"event_id":2,"source_event_id":null,"instance_id":"counter","execution_id":2,"timestamp_ms":1795265261426,"duroxide_version":"0.1.32","type":"TimerCreated","fire_at_ms":1795265261427}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',2,3,'TimerFired','{"event_id":3,"source_event_id":2,"instance_id":"counter","execution_id":2,"timestamp_ms":1795265261528,"duroxide_version":"0.1.32","type":"TimerFired","fire_at_ms":1795265261427}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',2,4,'OrchestrationContinuedAsNew','{"event_id":4,"source_event_id":null,"instance_id":"counter","execution_id":2,"timestamp_ms":1795265261528,"duroxide_version":"0.1.32","type":"OrchestrationContinuedAsNew","input":"0"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel',1,3,'ActivityCompleted','{"event_id":3,"source_event_id":2,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265261529,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"{\"label\": \"\\u00dc/1.5\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel',1,4,'CustomStatusUpdated','{"event_id":4,"source_event_id":null,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265261529,"duroxide_version":"0.1.32","type":"CustomStatusUpdated","status":"labelled"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel',1,5,'KeyValueSet','{"event_id":5,"source_event_id":null,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265261529,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"label","value":"Ü/1.5","last_updated_at_ms":1795265261529}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel',1,6,'ActivityScheduled','{"event_id":6,"source_event_id":null,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265261529,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"label","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel',1,7,'ActivityScheduled','{"event_id":7,"source_event_id":null,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265261529,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"label","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('retrying',1,3,'ActivityFailed','{"event_id":3,"source_event_id":2,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265261530,"duroxide_version":"0.1.32","type":"ActivityFailed","details":{"Application":{"kind":"ActivityFailed","message":"Activity ''unreliable'' call failed: ValueError: not yet","retryable":false}}}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('retrying',1,4,'TimerCreated','{"event_id":4,"source_event_id":null,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265261530,"duroxide_version":"0.1.32","type":"TimerCreated","fire_at_ms":1795265261630}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-delivery',1,3,'ActivityCompleted','{"event_id":3,"source_event_id":2,"instance_id":"parcel-of-delivery","execution_id":1,"timestamp_ms":1795265261531,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"{\"label\": \"\\u00dc/1.5\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-delivery',1,4,'CustomStatusUpdated','{"event_id":4,"source_event_id":null,"instance_id":"parcel-of-delivery","execution_id":1,"timestamp_ms":1795265261531,"duroxide_version":"0.1.32","type":"CustomStatusUpdated","status":"labelled"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-delivery',1,5,'KeyValueSet','{"event_id":5,"source_event_id":null,"instance_id":"parcel-of-delivery","execution_id":1,"timestamp_ms":1795265261531,"duroxide_version":"0.1.32","type":"KeyValueSet","key":"label","value":"Ü/1.5","last_updated_at_ms":1795265261531}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-delivery',1,6,'ActivityScheduled','{"event_id":6,"source_event_id":null,"instance_id":"parcel-of-delivery","execution_id":1,"timestamp_ms":1795265261531,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"label","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-delivery\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-delivery',1,7,'ActivityScheduled','{"event_id":7,"source_event_id":null,"instance_id":"parcel-of-delivery","execution_id":1,"timestamp_ms":1795265261531,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"label","input":"{\"name\": \"\\u00dc\", \"weight\": 1.5, \"child\": \"parcel-of-delivery\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',3,1,'OrchestrationStarted','{"event_id":1,"source_event_id":null,"instance_id":"counter","execution_id":3,"timestamp_ms":1795265261532,"duroxide_version":"0.1.32","type":"OrchestrationStarted","name":"counter","version":"1.0.0","input":"0","parent_instance":null,"parent_id":null}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',3,2,'TimerCreated','{"event_id":2,"source_event_id":null,"instance_id":"counter","execution_id":3,"timestamp_ms":1795265261532,"duroxide_version":"0.1.32","type":"TimerCreated","fire_at_ms":1795265261533}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',3,3,'TimerFired','{"event_id":3,"source_event_id":2,"instance_id":"counter","execution_id":3,"timestamp_ms":1795265261533,"duroxide_version":"0.1.32","type":"TimerFired","fire_at_ms":1795265261533}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('counter',3,4,'ExternalSubscribed','{"event_id":4,"source_event_id":null,"instance_id":"counter","execution_id":3,"timestamp_ms":1795265261533,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('retrying',1,5,'TimerFired','{"event_id":5,"source_event_id":4,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265261634,"duroxide_version":"0.1.32","type":"TimerFired","fire_at_ms":1795265261630}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('retrying',1,6,'ActivityScheduled','{"event_id":6,"source_event_id":null,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265261634,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"unreliable","input":"2"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel',1,8,'ActivityCompleted','{"event_id":8,"source_event_id":6,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265261635,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"{\"label\": \"\\u00dc/1.5\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel',1,9,'ActivityCompleted','{"event_id":9,"source_event_id":7,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265261635,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"{\"label\": \"\\u00dc/1.5\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel',1,10,'ExternalSubscribed','{"event_id":10,"source_event_id":null,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265261636,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"courier"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-delivery',1,8,'ActivityCompleted','{"event_id":8,"source_event_id":6,"instance_id":"parcel-of-delivery","execution_id":1,"timestamp_ms":1795265261637,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"{\"label\": \"\\u00dc/1.5\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-delivery',1,9,'ActivityCompleted','{"event_id":9,"source_event_id":7,"instance_id":"parcel-of-delivery","execution_id":1,"timestamp_ms":1795265261637,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"{\"label\": \"\\u00dc/1.5\"}"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('parcel-of-delivery',1,10,'ExternalSubscribed','{"event_id":10,"source_event_id":null,"instance_id":"parcel-of-delivery","execution_id":1,"timestamp_ms":1795265261637,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"courier"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('retrying',1,7,'ActivityFailed','{"event_id":7,"source_event_id":6,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265261739,"duroxide_version":"0.1.32","type":"ActivityFailed","details":{"Application":{"kind":"ActivityFailed","message":"Activity ''unreliable'' call failed: ValueError: not yet","retryable":false}}}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('retrying',1,8,'TimerCreated','{"event_id":8,"source_event_id":null,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265261739,"duroxide_version":"0.1.32","type":"TimerCreated","fire_at_ms":1795265261939}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('retrying',1,9,'TimerFired','{"event_id":9,"source_event_id":8,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265261943,"duroxide_version":"0.1.32","type":"TimerFired","fire_at_ms":1795265261939}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('retrying',1,10,'ActivityScheduled','{"event_id":10,"source_event_id":null,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265261943,"duroxide_version":"0.1.32","type":"ActivityScheduled","name":"unreliable","input":"2"}','2026-11-21 12:47:41');
INSERT INTO "history" VALUES('retrying',1,11,'ActivityCompleted','{"event_id":11,"source_event_id":10,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265262046,"duroxide_version":"0.1.32","type":"ActivityCompleted","result":"\"at last\""}','2026-11-21 12:47:42');
INSERT INTO "history" VALUES('retrying',1,12,'ExternalSubscribed','{"event_id":12,"source_event_id":null,"instance_id":"retrying","execution_id":1,"timestamp_ms":1795265262046,"duroxide_version":"0.1.32","type":"ExternalSubscribed","name":"go"}','2026-11-21 12:47:42');
INSERT INTO "history" VALUES('parcel',1,11,'ExternalEventPersistent','{"event_id":11,"source_event_id":null,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265262127,"duroxide_version":"0.1.32","type":"ExternalEventPersistent","name":"notes","data":"\"mind the dog\""}','2026-11-21 12:47:42');
INSERT INTO "history" VALUES('parcel',1,12,'ExternalEventPersistent','{"event_id":12,"source_event_id":null,"instance_id":"parcel","execution_id":1,"timestamp_ms":1795265262127,"duroxide_version":"0.1.32","type":"ExternalEventPersistent","name":"notes","data":"\"ring twice\""}','2026-11-21 12:47:42');
INSERT INTO "history" VALUES('parcel-of-delivery',1,11,'ExternalEventPersistent','{"event_id":11,"source_event_id":null,"instance_id":"parcel-of-delivery","execution_id":1,"timestamp_ms":1795265262129,"duroxide_version":"0.1.32","type":"ExternalEventPersistent","name":"notes","data":"\"one\""}','2026-11-21 12:47:42');
CREATE TABLE instance_locks (
    instance_id TEXT PRIMARY KEY,
    lock_token TEXT NOT NULL,
    locked_until INTEGER NOT NULL,
    locked_at INTEGER NOT NULL
);
CREATE TABLE instances (
    instance_id TEXT PRIMARY KEY,
    orchestration_name TEXT NOT NULL,
    orchestration_version TEXT NOT NULL,
    current_execution_id INTEGER NOT NULL DEFAULT 1,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
, parent_instance_id TEXT REFERENCES instances(instance_id), custom_status TEXT, custom_status_version INTEGER NOT NULL DEFAULT 0);
INSERT INTO "instances" VALUES('done-delivery','delivery','1.0.0',1,'2026-11-21 12:47:41','2026-11-21 12:47:41',NULL,NULL,0);
INSERT INTO "instances" VALUES('parcel-of-done-delivery','parcel','1.0.0',1,'2026-11-21 12:47:41','2026-11-21 12:47:41','done-delivery','labelled',1);
INSERT INTO "instances" VALUES('parcel','parcel','1.0.0',1,'2026-11-21 12:47:41','2026-11-21 12:47:41',NULL,'labelled',1);
INSERT INTO "instances" VALUES('delivery','delivery','1.0.0',1,'2026-11-21 12:47:41','2026-11-21 12:47:41',NULL,NULL,0);
INSERT INTO "instances" VALUES('retrying','retrying','1.0.0',1,'2026-11-21 12:47:41','2026-11-21 12:47:41',NULL,NULL,0);
INSERT INTO "instances" VALUES('counter','counter','1.0.0',3,'2026-11-21 12:47:41','2026-11-21 12:47:41',NULL,NULL,0);
INSERT INTO "instances" VALUES('parcel-of-delivery','parcel','1.0.0',1,'2026-11-21 12:47:41','2026-11-21 12:47:41','delivery','labelled',1);
CREATE TABLE kv_delta (
    instance_id TEXT NOT NULL,
    key         TEXT NOT NULL,
    value       TEXT,
    last_updated_at_ms INTEGER NOT NULL,
    PRIMARY KEY (instance_id, key)
);
INSERT INTO "kv_delta" VALUES('parcel','label','Ü/1.5',1795265261529);
INSERT INTO "kv_delta" VALUES('parcel-of-delivery','label','Ü/1.5',1795265261531);
CREATE TABLE "kv_store" (
    instance_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    last_updated_at_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (instance_id, key)
);
INSERT INTO "kv_store" VALUES('parcel-of-done-delivery','label','Ü/1.5',1795265261116);
CREATE TABLE orchestrator_queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    instance_id TEXT NOT NULL,
    work_item TEXT NOT NULL, -- JSON serialized WorkItem
    visible_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    lock_token TEXT,
    locked_until TIMESTAMP,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
, attempt_count INTEGER NOT NULL DEFAULT 0 CHECK(attempt_count >= 0));
INSERT INTO "orchestrator_queue" VALUES(34,'parcel-of-delivery','{"QueueMessage":{"instance":"parcel-of-delivery","name":"notes","data":"\"two\""}}',1795265262140,NULL,NULL,'2026-11-21 12:47:42',0);
INSERT INTO "orchestrator_queue" VALUES(35,'not-started','{"StartOrchestration":{"instance":"not-started","orchestration":"counter","input":"0","version":null,"parent_instance":null,"parent_id":null,"execution_id":1}}',1795265262140,NULL,NULL,'2026-11-21 12:47:42',0);
CREATE TABLE sessions (
    session_id     TEXT PRIMARY KEY,
    worker_id      TEXT NOT NULL,
    locked_until   INTEGER NOT NULL,    -- ms since epoch (heartbeat lease)
    last_activity_at INTEGER NOT NULL   -- ms since epoch (last work flow)
);
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
INSERT INTO "sqlite_sequence" VALUES('orchestrator_queue',35);
INSERT INTO "sqlite_sequence" VALUES('worker_queue',12);
COMMIT;
