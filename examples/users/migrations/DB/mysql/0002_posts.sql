CREATE TABLE posts (
  id INTEGER AUTO_INCREMENT PRIMARY KEY,
  user_id INTEGER,
  title TEXT NOT NULL,
  content TEXT,
  published_at DATETIME DEFAULT CURRENT_TIMESTAMP,
  INDEX idx_posts_user (user_id),
  INDEX idx_posts_published (published_at DESC),
  FOREIGN KEY (user_id) REFERENCES users (id)
);
