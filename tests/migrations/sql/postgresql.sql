-- What version 1.0's first migration made with Django 1.9 on PostgreSQL.

CREATE TABLE "redis_pubsub_channel" (
    "id" serial NOT NULL PRIMARY KEY,
    "name" varchar(100) NOT NULL UNIQUE,
    "datetime_created" timestamp with time zone NOT NULL
);

CREATE TABLE "redis_pubsub_receivedpublication" (
    "id" serial NOT NULL PRIMARY KEY,
    "datetime_received" timestamp with time zone NOT NULL,
    "publication_id" integer NULL CHECK ("publication_id" >= 0),
    "channel_id" integer NOT NULL,
    "publication_type_id" integer NULL,
    "subscriber_id" integer NOT NULL
);

CREATE TABLE "redis_pubsub_subscription" (
    "id" serial NOT NULL PRIMARY KEY,
    "active" boolean NOT NULL,
    "channel_id" integer NOT NULL,
    "subscriber_id" integer NOT NULL
);

ALTER TABLE "redis_pubsub_subscription" ADD CONSTRAINT "redis_pubsub_subscription_subscriber_id_e299d203_uniq" UNIQUE ("subscriber_id", "channel_id");

CREATE INDEX "redis_pubsub_channel_name_e8c453cc_like" ON "redis_pubsub_channel" ("name" varchar_pattern_ops);
CREATE INDEX "redis_pubsub_receivedpublication_72eb6c85" ON "redis_pubsub_receivedpublication" ("channel_id");
CREATE INDEX "redis_pubsub_receivedpublication_29c2cda3" ON "redis_pubsub_receivedpublication" ("publication_type_id");
CREATE INDEX "redis_pubsub_receivedpublication_9e0fe247" ON "redis_pubsub_receivedpublication" ("subscriber_id");
CREATE INDEX "redis_pubsub_subscription_72eb6c85" ON "redis_pubsub_subscription" ("channel_id");
CREATE INDEX "redis_pubsub_subscription_9e0fe247" ON "redis_pubsub_subscription" ("subscriber_id");

ALTER TABLE "redis_pubsub_receivedpublication" ADD CONSTRAINT "redis_pubsub_rec_channel_id_0de4ddbd_fk_redis_pubsub_channel_id" FOREIGN KEY ("channel_id") REFERENCES "redis_pubsub_channel" ("id") DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE "redis_pubsub_receivedpublication" ADD CONSTRAINT "redis_pu_publication_type_id_40f28d40_fk_django_content_type_id" FOREIGN KEY ("publication_type_id") REFERENCES "django_content_type" ("id") DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE "redis_pubsub_receivedpublication" ADD CONSTRAINT "redis_pubsub_receivedpub_subscriber_id_cafcd379_fk_auth_user_id" FOREIGN KEY ("subscriber_id") REFERENCES "auth_user" ("id") DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE "redis_pubsub_subscription" ADD CONSTRAINT "redis_pubsub_sub_channel_id_5b67e9a9_fk_redis_pubsub_channel_id" FOREIGN KEY ("channel_id") REFERENCES "redis_pubsub_channel" ("id") DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE "redis_pubsub_subscription" ADD CONSTRAINT "redis_pubsub_subscriptio_subscriber_id_6bc52335_fk_auth_user_id" FOREIGN KEY ("subscriber_id") REFERENCES "auth_user" ("id") DEFERRABLE INITIALLY DEFERRED;
