-- A site's rows under version 1.0, the same for every database.

INSERT INTO django_migrations (app, name, applied)
VALUES ('redis_pubsub', '0001_initial', '2016-03-01 09:00:00');

INSERT INTO django_content_type (id, app_label, model)
VALUES (1001, 'shop', 'message'), (1002, 'shop', 'silent');

INSERT INTO auth_user (id, username, password, is_superuser, first_name, last_name, email, is_staff, is_active, date_joined)
VALUES
    (1, 'ada', '!', false, '', '', '', false, true, '2016-03-01 09:00:00'),
    (2, 'bob', '!', false, '', '', '', false, true, '2016-03-01 09:00:00'),
    (3, 'cyd', '!', false, '', '', '', false, true, '2016-03-01 09:00:00');

-- 3 and 4 were deleted; 5 has the longest name that 1.0 allowed.
INSERT INTO redis_pubsub_channel (id, name, datetime_created)
VALUES
    (1, 'news', '2016-03-01 10:00:00'),
    (2, 'ada:messages', '2016-03-01 10:00:00'),
    (5, 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn', '2016-03-01 10:00:00');

INSERT INTO redis_pubsub_subscription (id, channel_id, subscriber_id, active)
VALUES
    (1, 1, 1, true),
    (2, 1, 2, true),
    (4, 1, 3, false),
    (5, 2, 1, true);

-- The same message to the same subscriber on the same channel: 12 came first and was
-- written before 13; 11 is older by its key only.
INSERT INTO redis_pubsub_receivedpublication (id, datetime_received, publication_type_id, publication_id, channel_id, subscriber_id)
VALUES
    (11, '2016-03-01 12:00:00', 1001, 70000, 1, 1),
    (12, '2016-03-01 11:00:00', 1001, 70000, 1, 1),
    (13, '2016-03-01 11:00:00', 1001, 70000, 1, 1);

-- Alike in three columns of the four: another subscriber, channel, row, model.
INSERT INTO redis_pubsub_receivedpublication (id, datetime_received, publication_type_id, publication_id, channel_id, subscriber_id)
VALUES
    (21, '2016-03-01 12:00:00', 1001, 70000, 1, 2),
    (22, '2016-03-01 12:00:00', 1001, 70000, 2, 1),
    (23, '2016-03-01 12:00:00', 1001, 30000, 1, 1),
    (24, '2016-03-01 12:00:00', 1002, 70000, 1, 1),
    (25, '2016-03-01 12:00:00', 1001, 2147483647, 1, 1);

-- Nobody knows what these were receipts of, so none is another's repetition.
INSERT INTO redis_pubsub_receivedpublication (id, datetime_received, publication_type_id, publication_id, channel_id, subscriber_id)
VALUES
    (31, '2016-03-01 12:00:00', NULL, 70000, 1, 1),
    (32, '2016-03-01 12:00:00', NULL, 70000, 1, 1),
    (33, '2016-03-01 12:00:00', 1001, NULL, 1, 1),
    (34, '2016-03-01 12:00:00', 1001, NULL, 1, 1),
    (35, '2016-03-01 12:00:00', NULL, NULL, 1, 1),
    (36, '2016-03-01 12:00:00', NULL, NULL, 1, 1);
