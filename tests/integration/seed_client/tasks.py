@app.task(bind=True, max_retries=3)
def run_evaluation(self, eval_id: str, code: str, language: str = "python"):
    """Execute code evaluation using dispatcher service."""
    
    try:
        # Call dispatcher to create K8s Job
        response = httpx.post(
            f"{DISPATCHER_URL}/execute",
            json={
                "eval_id": eval_id,
                "code": code,
                "language": language,
                "timeout": 300,
                "memory_limit": "512Mi",
                "cpu_limit": "500m"
            },
            timeout=30.0
        )
        response.raise_for_status()
        
        result = response.json()
        logger.info(f"Created job {result['job_name']} for eval {eval_id}")
        
        # Store job name for tracking
        redis_client.set(f"eval:{eval_id}:job", result['job_name'], ex=3600)
        
        # Monitor job status (optional - could be separate task)
        monitor_job_status.delay(eval_id, result['job_name'])
        
    except httpx.HTTPError as e:
        logger.error(f"Failed to create job for {eval_id}: {e}")
        raise self.retry(exc=e, countdown=60)

@app.task
def monitor_job_status(eval_id: str, job_name: str):
    """Monitor K8s Job status."""
    
    try:
        response = httpx.get(f"{DISPATCHER_URL}/status/{job_name}")
        response.raise_for_status()
        
        status = response.json()
        
        if status['status'] == 'succeeded':
            # Get logs and mark as complete
            logs_response = httpx.get(f"{DISPATCHER_URL}/logs/{job_name}")
            logs = logs_response.json().get('logs', '')
            
            # Publish completion event
            publish_evaluation_completed(eval_id, success=True, output=logs)
            
        elif status['status'] == 'failed':
            # Mark as failed
            publish_evaluation_completed(eval_id, success=False, error="Job failed")
            
        elif status['status'] == 'running':
            # Check again in 10 seconds
            monitor_job_status.apply_async(args=[eval_id, job_name], countdown=10)
            
    except Exception as e:
        logger.error(f"Error monitoring job {job_name}: {e}")
