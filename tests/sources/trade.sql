-- Tables of a small trade, where Northwind is not to be had: the same shapes, made-up rows.
CREATE TABLE regions (region_id smallint PRIMARY KEY, description varchar(60) NOT NULL);
INSERT INTO regions SELECT n, 'Region ' || n FROM generate_series(1, 4) n;

CREATE TABLE shippers (shipper_id smallint PRIMARY KEY, company_name varchar(40) NOT NULL, phone varchar(24));
INSERT INTO shippers SELECT n, 'Shipper ' || n, '(503) 555-' || 1000 + n FROM generate_series(1, 6) n;

CREATE TABLE categories (category_id smallint PRIMARY KEY, name varchar(15) NOT NULL, description text, picture bytea);
INSERT INTO categories
SELECT n, 'Category ' || n, repeat('of all sorts, ', n), decode(md5(n::text), 'hex') FROM generate_series(1, 8) n;

CREATE TABLE products (
    product_id smallint PRIMARY KEY, name varchar(40) NOT NULL, category_id smallint, unit_price real,
    units_in_stock smallint, discontinued integer NOT NULL);
INSERT INTO products
SELECT n, 'Product ' || n, 1 + n % 8, n * 1.7, nullif(n % 50, 0), n % 2 FROM generate_series(1, 77) n;

CREATE TABLE customers (
    customer_id varchar(5) PRIMARY KEY, company_name varchar(40) NOT NULL, contact_name varchar(30),
    city varchar(15), country varchar(15), phone varchar(24));
INSERT INTO customers
SELECT upper(left(md5(n::text), 5)), 'Company ' || n, 'Zoë ' || n, 'Århus', 'Danmark', NULL
FROM generate_series(1, 91) n;

CREATE TABLE employees (
    employee_id smallint PRIMARY KEY, last_name varchar(20) NOT NULL, birth_date date, notes text, reports_to smallint);
INSERT INTO employees
SELECT n, 'Employee ' || n, date '1960-01-01' + n * 100, repeat('Speaks "French"; ', 20), nullif(n / 3, 0)
FROM generate_series(1, 9) n;

CREATE TABLE territories (
    employee_id smallint, territory_id varchar(20), PRIMARY KEY (employee_id, territory_id));
INSERT INTO territories SELECT 1 + n % 9, lpad(n::text, 5, '0') FROM generate_series(1, 49) n;

CREATE TABLE orders (
    order_id smallint PRIMARY KEY, customer_id varchar(5), employee_id smallint, order_date date, shipped_date date,
    ship_via smallint, freight real, ship_name varchar(40), ship_address varchar(60));
INSERT INTO orders
SELECT 10000 + n, upper(left(md5((n % 91)::text), 5)), 1 + n % 9, date '1996-07-04' + n,
       CASE WHEN n % 20 > 0 THEN date '1996-07-11' + n END, 1 + n % 6, n * 0.37, 'Ship ' || n, E'c/o\n"Dock" ' || n
FROM generate_series(1, 830) n;

CREATE TABLE order_details (
    order_id smallint, product_id smallint, unit_price real NOT NULL, quantity smallint NOT NULL, discount real NOT NULL,
    PRIMARY KEY (order_id, product_id));
INSERT INTO order_details
SELECT 10000 + n, 1 + (n * 7 + m * 11) % 77, m * 2.5, n % 100, n % 4 * 0.05
FROM generate_series(1, 830) n, generate_series(1, 1 + n % 4) m;
