-- What version 1.0's first migration made with Django 1.9 on SQLite.

CREATE TABLE "redis_pubsub_channel" (
    "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    "name" varchar(100) NOT NULL UNIQUE,
    "datetime_created" datetime NOT NULL
);

CREATE TABLE "redis_pubsub_receivedpublication" (
    "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    "datetime_received" datetime NOT NULL,
    "publication_id" integer unsigned NULL,
    "channel_id" integer NOT NULL REFERENCES "redis_pubsub_channel" ("id"),
    "publication_type_id" integer NULL REFERENCES "django_content_type" ("id"),
    "subscriber_id" integer NOT NULL REFERENCES "auth_user" ("id")
);

CREATE TABLE "redis_pubsub_subscription" (
    "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    "active" bool NOT NULL,
    "channel_id" integer NOT NULL REFERENCES "redis_pubsub_channel" ("id"),
    "subscriber_id" integer NOT NULL REFERENCES "auth_user" ("id")
);

CREATE INDEX "redis_pubsub_receivedpublication_72eb6c85" ON "redis_pubsub_receivedpublication" ("channel_id");
CREATE INDEX "redis_pubsub_receivedpublication_29c2cda3" ON "redis_pubsub_receivedpublication" ("publication_type_id");
CREATE INDEX "redis_pubsub_receivedpublication_9e0fe247" ON "redis_pubsub_receivedpublication" ("subscriber_id");
CREATE UNIQUE INDEX "redis_pubsub_subscription_subscriber_id_e299d203_uniq" ON "redis_pubsub_subscription" ("subscriber_id", "channel_id");
CREATE INDEX "redis_pubsub_subscription_72eb6c85" ON "redis_pubsub_subscription" ("channel_id");
CREATE INDEX "redis_pubsub_subscription_9e0fe247" ON "redis_pubsub_subscription" ("subscriber_id");
