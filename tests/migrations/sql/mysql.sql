-- What version 1.0's first migration made with Django 1.9 on MySQL and MariaDB. InnoDB
-- gave each foreign key its index by itself.

CREATE TABLE `redis_pubsub_channel` (
    `id` integer AUTO_INCREMENT NOT NULL PRIMARY KEY,
    `name` varchar(100) NOT NULL UNIQUE,
    `datetime_created` datetime(6) NOT NULL
);

CREATE TABLE `redis_pubsub_receivedpublication` (
    `id` integer AUTO_INCREMENT NOT NULL PRIMARY KEY,
    `datetime_received` datetime(6) NOT NULL,
    `publication_id` integer UNSIGNED NULL,
    `channel_id` integer NOT NULL,
    `publication_type_id` integer NULL,
    `subscriber_id` integer NOT NULL
);

CREATE TABLE `redis_pubsub_subscription` (
    `id` integer AUTO_INCREMENT NOT NULL PRIMARY KEY,
    `active` bool NOT NULL,
    `channel_id` integer NOT NULL,
    `subscriber_id` integer NOT NULL
);

ALTER TABLE `redis_pubsub_subscription` ADD CONSTRAINT `redis_pubsub_subscription_subscriber_id_e299d203_uniq` UNIQUE (`subscriber_id`, `channel_id`);

ALTER TABLE `redis_pubsub_receivedpublication` ADD CONSTRAINT `redis_pubsub_rece_channel_id_0de4ddbd_fk_redis_pubsub_channel_id` FOREIGN KEY (`channel_id`) REFERENCES `redis_pubsub_channel` (`id`);
ALTER TABLE `redis_pubsub_receivedpublication` ADD CONSTRAINT `redis_pub_publication_type_id_40f28d40_fk_django_content_type_id` FOREIGN KEY (`publication_type_id`) REFERENCES `django_content_type` (`id`);
ALTER TABLE `redis_pubsub_receivedpublication` ADD CONSTRAINT `redis_pubsub_receivedpubl_subscriber_id_cafcd379_fk_auth_user_id` FOREIGN KEY (`subscriber_id`) REFERENCES `auth_user` (`id`);
ALTER TABLE `redis_pubsub_subscription` ADD CONSTRAINT `redis_pubsub_subs_channel_id_5b67e9a9_fk_redis_pubsub_channel_id` FOREIGN KEY (`channel_id`) REFERENCES `redis_pubsub_channel` (`id`);
ALTER TABLE `redis_pubsub_subscription` ADD CONSTRAINT `redis_pubsub_subscription_subscriber_id_6bc52335_fk_auth_user_id` FOREIGN KEY (`subscriber_id`) REFERENCES `auth_user` (`id`);
