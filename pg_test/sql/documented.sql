-- Every table, view and function is documented where the user looks for it; those with an underscore in front are
-- for the views only. No function is overloaded.
SELECT p.oid::regprocedure AS undocumented
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
WHERE p.pronamespace = 'sequin'::regnamespace AND p.prorettype <> 'trigger'::regtype AND p.proname !~ '^_'
  AND obj_description(p.oid, 'pg_proc') IS NULL
ORDER BY 1::text;
SELECT c.oid::regclass AS undocumented
FROM pg_class c WHERE c.relnamespace = 'sequin'::regnamespace AND c.relkind IN ('r', 'v', 'p')
  AND obj_description(c.oid, 'pg_class') IS NULL
ORDER BY 1::text;
SELECT proname AS overloaded FROM pg_proc WHERE pronamespace = 'sequin'::regnamespace GROUP BY 1 HAVING count(*) > 1;
